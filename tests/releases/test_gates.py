"""The gates, evaluated from facts."""

import re
from datetime import timedelta
from typing import Any

import pytest

from infra.release import Chart, Release
from infra.settings import GateSettings, ReleaseSettings
from ops.releases.evidence import Evidence
from ops.releases.gates import Facts, Gate, gates

from .team import NOW, REVISIONS

COMMIT, BEFORE = "c" * 40, "b" * 40
ADA = "Ada <ada@example.org>"


def release(**changes: Any) -> Release:
    return Release(
        stack="dev",
        commit=COMMIT,
        dags="d" * 40,
        chart=Chart(version="1.22.0", sha256="0" * 64),
        airflow_version="3.3.2",
        database_revisions=REVISIONS,
        images={},
        recorded_at=NOW,
        deployed_at=NOW,
    ).model_copy(update=changes)


def judged(name: str, settings: dict[str, Any], **facts: Any) -> Gate:
    """Return the gate with this name, without any other optional gates."""
    signed_by = settings.pop("signed_by", None)
    asked = GateSettings(**{"tests": False, "dag_integrity": False, **settings})
    given = {"release": release(), "target": "staging", "present": release(), "before": BEFORE, "now": NOW, **facts}
    found = gates(ReleaseSettings(after="dev", signed_by=signed_by, gates=asked), Facts(**given))
    return next(gate for gate in found if gate.name == name)


def evidence(gate: str, **changes: Any) -> Evidence:
    given = {"gate": gate, "stack": "staging", "against": BEFORE, "passed": True, "by": ADA, "at": NOW, **changes}
    return Evidence.model_validate(given)


def test_only_required_gates_are_checked() -> None:
    asked = GateSettings(tests=False, dag_integrity=False)
    facts = Facts(release=release(), target="staging", present=None, before=None, now=NOW)
    assert [gate.name for gate in gates(ReleaseSettings(after="dev", gates=asked), facts)] == ["deployed"]
    everything = GateSettings(plan_review=True, upgrade_rehearsal=True, max_cost_increase_usd=1, soak_hours=1)
    assert [gate.name for gate in gates(ReleaseSettings(after="dev", signed_by="x", gates=everything), facts)] == [
        *("deployed", "tests", "DAG integrity", "signature", "cost", "plan review", "rehearsal")
    ]


@pytest.mark.parametrize(("minutes", "passed"), [(59, False), (60, True), (61, True)])
def test_a_release_soaks_from_when_it_was_deployed(minutes: int, *, passed: bool) -> None:
    gate = judged("deployed", {"soak_hours": 1}, now=NOW + timedelta(minutes=minutes))
    assert gate.passed is passed
    assert gate.reason == f"deployed in dev since {NOW:%Y-%m-%d %H:%M} UTC, required for 1 h"
    assert gate.fix == f"wait until {NOW + timedelta(hours=1):%Y-%m-%d %H:%M} UTC"


def test_tests_of_another_gate_or_stack_do_not_count() -> None:
    assert not judged("tests", {"tests": True}, evidence=[evidence("plan")]).passed
    passed = judged("tests", {"tests": True}, evidence=[evidence("tests", stack=None, against=None)])
    assert passed.passed
    assert passed.reason == f"the tests passed: {ADA}, {NOW:%Y-%m-%d %H:%M} UTC"


def test_dag_files_that_cannot_be_read_are_named_with_the_last_line() -> None:
    errors = {"b/b_dag.py": "Traceback\n  File\nNameError: x\n", "a.py": "ImportError: y"}
    gate = judged("DAG integrity", {"dag_integrity": True}, dag_errors=errors)
    assert (gate.passed, gate.reason) == (False, "a.py: ImportError: y; b/b_dag.py: NameError: x")
    assert judged("DAG integrity", {"dag_integrity": True}).passed


@pytest.mark.parametrize(("increase", "passed"), [(10.0, True), (10.01, False), (-5.0, True), (None, False)])
def test_the_cost_may_increase_up_to_the_limit(increase: float | None, *, passed: bool) -> None:
    gate = judged("cost", {"max_cost_increase_usd": 10}, cost_increase=increase)
    assert gate.passed is passed
    if increase is None:
        assert gate.reason == "no prices are known for the region of staging"


@pytest.mark.parametrize(
    ("known", "passed", "reason"),
    [
        ([], False, "the plan has not been approved"),
        ([evidence("plan")], True, "approved: "),
        ([evidence("plan", passed=False)], False, "declined: "),
        ([evidence("plan", stack="prod")], False, "the plan has not been approved"),
        ([evidence("plan", against="a" * 40)], False, "staging has moved to another commit since"),
        ([evidence("plan", against=None)], False, "staging has moved to another commit since"),
    ],
)
def test_a_review_is_one_of_this_stack_from_where_it_is(known: list[Evidence], reason: str, *, passed: bool) -> None:
    gate = judged("plan review", {"plan_review": True}, evidence=known)
    assert gate.passed is passed
    assert gate.reason.startswith(reason)


@pytest.mark.parametrize(
    ("known", "passed", "reason"),
    [
        ([], False, "the release cccccccccccc migrates the database .*, and has not been rehearsed"),
        ([evidence("rehearsal")], True, "rehearsed: "),
        ([evidence("rehearsal", passed=False)], False, "the rehearsal failed: "),
        ([evidence("rehearsal", against="a" * 40)], False, "staging has moved to another commit since"),
    ],
)
def test_a_migration_is_rehearsed_on_the_database_that_the_stack_has(
    known: list[Evidence], reason: str, *, passed: bool
) -> None:
    older = release(database_revisions={"alembic_version": "0"})
    gate = judged("rehearsal", {"upgrade_rehearsal": True}, present=older, evidence=known)
    assert gate.passed is passed
    assert re.match(reason, gate.reason)


@pytest.mark.parametrize(
    ("present", "reason"),
    [(release(), "the database schema does not change"), (None, "staging has no release yet to migrate from")],
)
def test_what_does_not_migrate_needs_no_rehearsal(present: Release | None, reason: str) -> None:
    gate = judged("rehearsal", {"upgrade_rehearsal": True}, present=present)
    assert (gate.passed, gate.reason) == (True, reason)


def test_every_signature_that_is_missing_is_named() -> None:
    assert judged("signature", {"signed_by": "^me$"}).passed
    gate = judged("signature", {"signed_by": "^me$"}, unsigned={"ml": "ml bears none", "airflow": "nor does airflow"})
    assert (gate.passed, gate.reason) == (False, "ml bears none; nor does airflow")
