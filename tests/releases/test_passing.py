import os

import pytest

from infra.errors import OperationError
from infra.release import Release
from ops.releases.evidence import Evidence
from ops.releases.gate_runs import approve, rehearse, run_tests
from ops.releases.ledger import Ledger
from ops.releases.promotion import promote, promotion

from .team import Team


def known(team: Team, commit: str | None = None) -> list[Evidence]:
    return Ledger(team.clone).evidence(commit or team.clone.head())


def test_tests_that_pass_are_recorded_for_the_commit(team: Team) -> None:
    said: list[str] = []
    run_tests(team.clone, said.append)
    [evidence] = known(team)
    assert (evidence.gate, evidence.stack, evidence.passed) == ("tests", None, True)
    assert evidence.by == "Ada <ada@example.org>"
    assert said == [f"recorded: {team.clone.head()[:12]} passed the tests"]


def test_tests_that_fail_are_recorded_too(team: Team) -> None:
    commit = team.commit({"broken": "yes"})
    with pytest.raises(OperationError, match=rf"^the tests of {commit[:12]} failed, which is recorded"):
        run_tests(team.clone, print)
    assert [evidence.passed for evidence in known(team)] == [False]


def test_tests_of_files_that_are_not_committed_are_refused(team: Team) -> None:
    (team.clone.folder / "mine").write_text("dirty")
    with pytest.raises(OperationError, match=r"^there are uncommitted changes \(mine\)"):
        run_tests(team.clone, print)
    assert known(team) == []


def test_tests_during_which_files_changed_are_not_recorded(team: Team) -> None:
    team.commit({"Makefile": "test:\n\t@touch mine\n"})
    with pytest.raises(OperationError, match=r"^files changed while the tests of .* ran, so nothing was recorded"):
        run_tests(team.clone, print)
    assert known(team) == []


def test_the_tests_get_no_options_of_the_make_that_runs_the_gate(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "n -- GATE=tests")
    commit = team.commit({"Makefile": "test:\n\t@test -z '$(GATE)' && false\n"})
    with pytest.raises(OperationError, match="failed, which is recorded"):  # with -n nothing would run
        run_tests(team.clone, print)
    assert not known(team, commit)[0].passed
    assert os.environ["MAKEFLAGS"]


@pytest.fixture
def released(team: Team) -> Release:
    """A release of dev, newer than that of staging."""
    team.release()
    with promotion(team.clone, "dev", "staging") as transition:
        promote(transition, team.images, lambda _: None)
    return team.release(commit=team.commit({"new": "1"}))


def test_an_approval_is_recorded_with_where_the_stack_was(team: Team, released: Release) -> None:
    with promotion(team.clone, "dev", "staging") as transition:
        approve(transition, print, approved=True)
    [evidence] = known(team, released.commit)
    assert (evidence.gate, evidence.stack, evidence.passed) == ("plan", "staging", True)
    assert evidence.against == team.head("staging")


def test_a_refusal_to_approve_is_recorded_and_an_error(team: Team, released: Release) -> None:
    with (
        promotion(team.clone, "dev", "staging") as transition,
        pytest.raises(OperationError, match=rf"^{released.short} is declined for staging, which is recorded"),
    ):
        approve(transition, print, approved=False)
    assert [evidence.passed for evidence in known(team, released.commit)] == [False]


def test_a_rehearsal_that_works_is_recorded(team: Team, released: Release) -> None:
    called: list[Release] = []
    with promotion(team.clone, "dev", "staging") as transition:
        rehearse(transition, called.append, print)
    [evidence] = known(team, released.commit)
    assert (evidence.gate, evidence.stack, evidence.passed) == ("rehearsal", "staging", True)
    assert evidence.against == team.head("staging")
    assert [release.commit for release in called] == [released.commit]


def test_a_failed_rehearsal_is_recorded_and_its_error_raised(team: Team, released: Release) -> None:
    def rehearsal(_: Release) -> None:
        raise OperationError("the migration failed: no column")

    with promotion(team.clone, "dev", "staging") as transition, pytest.raises(OperationError, match="no column"):
        rehearse(transition, rehearsal, print)
    assert [evidence.passed for evidence in known(team, released.commit)] == [False]
