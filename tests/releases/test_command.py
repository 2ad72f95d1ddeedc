"""The commands for releases, run in a clone."""

import sys

import pytest

from ops.cli import app
from ops.cli import releases as command
from ops.releases.clone import Clone

from .team import Team


@pytest.fixture(autouse=True)
def in_the_clone(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Clone", lambda: Clone(team.clone.folder))
    monkeypatch.setattr(command, "REGISTRIES", team.images)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ops", *arguments])
    app.main()


@pytest.mark.parametrize("name", ["promote", "rollback", "release", "releases", "gates", "gate"])
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run(monkeypatch, name, "--help")
    assert len(capsys.readouterr().out.splitlines()) > 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["promote", "dev", "nope"], r"^error: Pulumi.nope.yaml does not exist"),
        (["promote", "dev", "staging"], r"^error: dev has no release"),
        (["rollback", "prod"], r"^error: prod has no release to roll back to: record one"),
        (["gates", "dev"], r"^error: dev is the first stack of the chain and has no gates: choose a later stack$"),
        (["gate", "plan"], r"^error: STACK is missing: run `make gate GATE=plan STACK=staging`$"),
        (["releases", "nope"], r"^error: Pulumi.nope.yaml does not exist"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit, match=sentence):
        run(monkeypatch, *arguments)


def test_a_confirmation_of_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^error: Invalid value for '--confirm'.*migration"):
        run(monkeypatch, "promote", "dev", "staging", "--confirm", "database")


def test_a_release_is_promoted_listed_and_rolled_back(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = team.release()
    run(monkeypatch, "releases", "staging")
    assert capsys.readouterr().out == "staging has no release yet\n"
    run(monkeypatch, "promote", "dev", "staging")
    assert f"promoted {release.short} from dev to staging: " in capsys.readouterr().out
    run(monkeypatch, "releases", "staging")
    listed = capsys.readouterr().out
    assert f"Promote {release.short} from dev to staging" in listed
    assert "Ada <ada@example.org>" in listed
    newer = team.release(commit=team.commit({"new": "1"}))
    run(monkeypatch, "rollback", "dev")
    assert f"rolled dev back to {release.short}: " in capsys.readouterr().out
    assert team.head("dev") == release.commit != newer.commit


def test_a_dry_run_shows_what_would_change_and_changes_nothing(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = team.release()
    before = team.git("ls-remote", "origin")
    run(monkeypatch, "promote", "dev", "staging", "--dry-run")
    shown = capsys.readouterr().out
    assert f"staging: no release yet -> {release.short}" in shown
    assert "+ hello" in shown
    assert shown.endswith("all checks passed\n")
    assert team.git("ls-remote", "origin") == before
    assert not team.registry("staging").folder.exists()


def test_a_dry_run_prints_all_refusals(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    team.gates("staging", {"tests": True, "soak_hours": 24})
    team.release()
    (team.clone.folder / "mine").write_text("dirty")
    with pytest.raises(SystemExit) as refusal:
        run(monkeypatch, "promote", "dev", "staging", "--dry-run")
    messages = str(refusal.value).splitlines()
    assert len(messages) == 3
    assert messages[0].startswith("error: there are uncommitted changes")
    assert "+ hello" in capsys.readouterr().out


def test_a_rollback_has_a_dry_run(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = team.release("prod")
    second = team.release("prod", team.commit({"dags/hello/hello_dag.py": "# from airflow import dag\n"}))
    run(monkeypatch, "rollback", "prod", "--dry-run")
    shown = capsys.readouterr().out
    assert f"prod: {second.short} -> {first.short}" in shown
    assert "+ hello" in shown
    assert team.head("main") == second.commit


def test_gates_are_listed_with_the_fix_and_passed_one_by_one(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    team.gates("staging", {"tests": True, "plan_review": True})
    release = team.release()
    run(monkeypatch, "gates", "staging")
    listed = capsys.readouterr().out
    assert "`make gate GATE=plan STACK=staging`" in listed
    assert listed.count("open") == 2
    run(monkeypatch, "gate", "tests")
    run(monkeypatch, "gate", "plan", "--stack", "staging", "--yes")
    assert f"recorded: {release.short} is approved for staging" in capsys.readouterr().out
    run(monkeypatch, "gates", "staging")
    assert "open" not in capsys.readouterr().out
    run(monkeypatch, "promote", "dev", "staging")


def test_without_a_terminal_nothing_is_approved(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.release()
    before = team.git("ls-remote", "origin")
    with pytest.raises(SystemExit, match=r"^error: the plan is not approved: answer y at the prompt, or set YES=1$"):
        run(monkeypatch, "gate", "plan", "--stack", "staging")
    assert team.git("ls-remote", "origin") == before
