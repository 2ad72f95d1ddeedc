"""What a release must have passed before it comes into a stack, and whether it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infra.release import Release
from infra.settings import ReleaseSettings
from ops.releases.database import migrates
from ops.releases.evidence import Evidence, found


@dataclass(frozen=True)
class Gate:
    """One of the gates, as a release stands before it.

    Attributes:
        name: What is asked for.
        passed: Whether it is given.
        reason: Why.
        fix: What to do where it is not.
    """

    name: str
    passed: bool
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class Facts:
    """All that the gates are judged by.

    Attributes:
        release: The record of the stack before.
        target: The stack that the release is to come into.
        present: The record of that stack; None where it has none.
        before: The commit that that stack is at; None where it is at none.
        now: The time, in UTC.
        evidence: What is known of the release's commit.
        dag_errors: Why DAG files cannot be read, by their paths.
        cost_increase: By how many dollars a month the stack gets dearer; None where that is not known.
        unsigned: What is wrong with the signatures of the images, by the images' names.
    """

    release: Release
    target: str
    present: Release | None
    before: str | None
    now: datetime
    evidence: Sequence[Evidence] = ()
    dag_errors: Mapping[str, str] = field(default_factory=dict)
    cost_increase: float | None = 0
    unsigned: Mapping[str, str] = field(default_factory=dict)


def gates(settings: ReleaseSettings, facts: Facts) -> Iterator[Gate]:
    """Yield the gates that a stack asks for, passed or not."""
    asked = settings.gates
    yield _deployed(facts, asked.soak_hours)
    if asked.tests:
        yield _tests(facts)
    if asked.dag_integrity:
        yield _dag_integrity(facts)
    if settings.signed_by:
        yield _signature(facts, settings.signed_by)
    if asked.max_cost_increase_usd is not None:
        yield _cost(facts, asked.max_cost_increase_usd)
    if asked.plan_review:
        yield _plan_review(facts)
    if asked.upgrade_rehearsal:
        yield _rehearsal(facts)


def _deployed(facts: Facts, hours: float) -> Gate:
    stack, since = facts.release.stack, facts.release.deployed_at
    if since is None:
        return Gate(
            "deployed",
            passed=False,
            reason=f"{facts.release.short} does not run in {stack} yet",
            fix=f"`make deploy STACK={stack}`, `make smoke STACK={stack}`, then `make release STACK={stack}`",
        )
    due = since + timedelta(hours=hours)
    return Gate(
        "deployed",
        passed=facts.now >= due,
        reason=f"it runs in {stack} since {_time(since)}, and must for {hours:g} h",
        fix=f"wait until {_time(due)}",
    )


def _tests(facts: Facts) -> Gate:
    commit = facts.release.short
    run = f"`git checkout {commit}`, then `make gate GATE=tests`"
    evidence = found(facts.evidence, "tests")
    if evidence is None:
        return Gate("tests", passed=False, reason=f"the tests were not run on {commit}", fix=run)
    fix = f"mend them in a commit on top and release that, or where they failed by chance {run}"
    return _of(evidence, f"the tests {'passed' if evidence.passed else 'failed'}", fix)


def _dag_integrity(facts: Facts) -> Gate:
    errors = [f"{file}: {text.strip().splitlines()[-1]}" for file, text in sorted(facts.dag_errors.items())]
    return Gate(
        "DAG integrity",
        passed=not errors,
        reason="; ".join(errors) or "every DAG file can be read",
        fix="mend the files in a commit on top, and release that",
    )


def _signature(facts: Facts, signed_by: str) -> Gate:
    return Gate(
        "signature",
        passed=not facts.unsigned,
        reason="; ".join(facts.unsigned.values()) or f"every image is signed by {signed_by}",
        fix=f"`make sign STACK={facts.release.stack}`, as somebody whom signed_by names",
    )


def _cost(facts: Facts, limit: float) -> Gate:
    name, raised = "cost", f"raise airflow:release.gates.max_cost_increase_usd in Pulumi.{facts.target}.yaml"
    if facts.cost_increase is None:
        reason = f"no prices are known for the region of {facts.target}"
        return Gate(name, passed=False, reason=reason, fix=raised.replace("raise", "take out"))
    return Gate(
        name,
        passed=facts.cost_increase <= limit,
        reason=f"{facts.cost_increase:+.2f} $ a month at the stated load, of {limit:g} $ allowed",
        fix=f"make it cheaper, or {raised}",
    )


def _plan_review(facts: Facts) -> Gate:
    command = f"`make gate GATE=plan STACK={facts.target}`"
    evidence = found(facts.evidence, "plan", facts.target)
    if evidence is None:
        return Gate("plan review", passed=False, reason="nobody has approved what changes", fix=command)
    if evidence.against != facts.before:
        return _outdated("plan review", facts, command)
    return _of(evidence, "approved" if evidence.passed else "declined", command, "plan review")


def _rehearsal(facts: Facts) -> Gate:
    name, command = "rehearsal", f"`make gate GATE=rehearsal STACK={facts.target}`"
    if facts.present is None:
        return Gate(name, passed=True, reason=f"{facts.target} has no release yet from which to migrate")
    migration = migrates(facts.present, facts.release)
    if migration is None:
        return Gate(name, passed=True, reason="the database keeps its schema")
    evidence = found(facts.evidence, "rehearsal", facts.target)
    if evidence is None:
        return Gate(name, passed=False, reason=f"{migration}: not rehearsed on a copy of the database", fix=command)
    if evidence.against != facts.before:
        return _outdated(name, facts, command)
    return _of(evidence, "rehearsed" if evidence.passed else "the rehearsal failed", command, name)


def _of(evidence: Evidence, result: str, fix: str, name: str = "tests") -> Gate:
    return Gate(name, passed=evidence.passed, reason=f"{result}: {evidence.by}, {_time(evidence.at)}", fix=fix)


def _outdated(name: str, facts: Facts, command: str) -> Gate:
    return Gate(name, passed=False, reason=f"{facts.target} was at another commit then", fix=f"again {command}")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
