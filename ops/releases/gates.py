"""The gates that a release must pass before it is promoted to a stack."""

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
    """The state of one gate for a release.

    Attributes:
        name: The gate.
        passed: Whether the release has passed it.
        reason: Why it has passed or not.
        fix: What to do if it has not passed.
    """

    name: str
    passed: bool
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class Facts:
    """The facts that decide about the gates.

    Attributes:
        release: The release to promote, from the record of the source stack.
        target: The target stack.
        present: The record of the target stack; None if it has none.
        before: The commit of the target stack; None if it has none.
        now: The time, in UTC.
        evidence: The evidence of the release's commit.
        dag_errors: The import errors of DAG files, by path.
        cost_increase: The increase of the monthly cost in USD; None if unknown.
        unsigned: Signature errors, by image name.
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
    """Yield the gates that a stack requires, passed or not."""
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
            reason=f"{facts.release.short} is not deployed in {stack} yet",
            fix=f"run `make deploy STACK={stack}`, `make smoke STACK={stack}`, then `make release STACK={stack}`",
        )
    due = since + timedelta(hours=hours)
    return Gate(
        "deployed",
        passed=facts.now >= due,
        reason=f"deployed in {stack} since {_time(since)}, required for {hours:g} h",
        fix=f"wait until {_time(due)}",
    )


def _tests(facts: Facts) -> Gate:
    commit = facts.release.short
    run = f"run `git checkout {commit}`, then `make gate GATE=tests`"
    evidence = found(facts.evidence, "tests")
    if evidence is None:
        return Gate("tests", passed=False, reason=f"the tests have not been run on {commit}", fix=run)
    fix = f"fix them in a new commit and release it, or if the failure was transient {run}"
    return _of(evidence, f"the tests {'passed' if evidence.passed else 'failed'}", fix)


def _dag_integrity(facts: Facts) -> Gate:
    errors = [f"{file}: {text.strip().splitlines()[-1]}" for file, text in sorted(facts.dag_errors.items())]
    return Gate(
        "DAG integrity",
        passed=not errors,
        reason="; ".join(errors) or "no import errors",
        fix="fix the files in a new commit and release it",
    )


def _signature(facts: Facts, signed_by: str) -> Gate:
    return Gate(
        "signature",
        passed=not facts.unsigned,
        reason="; ".join(facts.unsigned.values()) or f"every image is signed by {signed_by}",
        fix=f"run `make sign STACK={facts.release.stack}` as an identity that signed_by allows",
    )


def _cost(facts: Facts, limit: float) -> Gate:
    name, raised = "cost", f"raise airflow:release.gates.max_cost_increase_usd in Pulumi.{facts.target}.yaml"
    if facts.cost_increase is None:
        reason = f"no prices are known for the region of {facts.target}"
        return Gate(name, passed=False, reason=reason, fix=raised.replace("raise", "remove"))
    return Gate(
        name,
        passed=facts.cost_increase <= limit,
        reason=f"{facts.cost_increase:+.2f} USD a month at the stated load, {limit:g} USD allowed",
        fix=f"reduce the cost, or {raised}",
    )


def _plan_review(facts: Facts) -> Gate:
    command = f"`make gate GATE=plan STACK={facts.target}`"
    evidence = found(facts.evidence, "plan", facts.target)
    if evidence is None:
        return Gate("plan review", passed=False, reason="the plan has not been approved", fix=command)
    if evidence.against != facts.before:
        return _outdated("plan review", facts, command)
    return _of(evidence, "approved" if evidence.passed else "declined", command, "plan review")


def _rehearsal(facts: Facts) -> Gate:
    name, command = "rehearsal", f"`make gate GATE=rehearsal STACK={facts.target}`"
    if facts.present is None:
        return Gate(name, passed=True, reason=f"{facts.target} has no release yet to migrate from")
    migration = migrates(facts.present, facts.release)
    if migration is None:
        return Gate(name, passed=True, reason="the database schema does not change")
    evidence = found(facts.evidence, "rehearsal", facts.target)
    if evidence is None:
        return Gate(name, passed=False, reason=f"{migration}, and has not been rehearsed", fix=command)
    if evidence.against != facts.before:
        return _outdated(name, facts, command)
    return _of(evidence, "rehearsed" if evidence.passed else "the rehearsal failed", command, name)


def _of(evidence: Evidence, result: str, fix: str, name: str = "tests") -> Gate:
    return Gate(name, passed=evidence.passed, reason=f"{result}: {evidence.by}, {_time(evidence.at)}", fix=fix)


def _outdated(name: str, facts: Facts, command: str) -> Gate:
    reason = f"{facts.target} has moved to another commit since"
    return Gate(name, passed=False, reason=reason, fix=f"rerun {command}")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
