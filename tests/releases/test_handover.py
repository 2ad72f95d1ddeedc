"""The handover between jobs: a prepared change is pushed unchanged, and nothing else is pushed."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.cli import app
from ops.cli import releases as command
from ops.releases import handover
from ops.releases.clone import Clone
from ops.releases.evidence import Evidence
from ops.releases.gate_runs import run_tests
from ops.releases.handover import Change, HandoverError, Remote, check_out, publish
from ops.releases.ledger import Ledger
from ops.releases.promotion import promote, promotion
from ops.releases.recording import record
from ops.releases.rollback import roll_back, rollback_transition
from tests.programs import put_on_path

from .records import a_release
from .team import NOW, Team

PROGRAM = Path(handover.__file__)


def silent(_line: str) -> None:
    """Discard output."""


@pytest.fixture(autouse=True)
def settings_of_the_team(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "REPOSITORY", team.clone.folder)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture
def clone(team: Team, tmp_path: Path) -> Clone:
    """The team's clone, which writes changes to a file."""
    return replace(team.clone, change_file=tmp_path / "change.json")


@pytest.fixture
def remote(team: Team) -> Remote:
    return Remote(team.clone.folder)


def change_of(clone: Clone) -> Change:
    assert clone.change_file
    return Change.read(clone.change_file)


def refs(team: Team) -> str:
    return team.git("ls-remote", "origin")


def prepared_promotion(team: Team, clone: Clone) -> Change:
    with promotion(clone, "dev", "staging") as transition:
        promote(transition, team.images, silent)
    return change_of(clone)


def prepared_rollback(team: Team, clone: Clone, stack: str, to: str | None = None) -> Change:
    with rollback_transition(clone, stack, to) as transition:
        roll_back(transition, team.images, silent)
    return change_of(clone)


@pytest.fixture
def promotable(team: Team) -> Team:
    """A team with a release in staging and a newer one in dev."""
    team.release()
    with promotion(team.clone, "dev", "staging") as transition:
        promote(transition, team.images, silent)
    team.release(commit=team.commit({"new": "1"}))
    return team


# Prepared changes that are published


def test_a_promotion_that_is_written_down_moves_nothing_until_it_is_published(
    promotable: Team, clone: Clone, remote: Remote
) -> None:
    before = refs(promotable)
    change = prepared_promotion(promotable, clone)
    assert refs(promotable) == before
    said = publish(remote, "promote", "staging", None, change)
    commit = promotable.clone.head()
    assert said == f"published: Promote {commit[:12]} from dev to staging"
    record = promotable.record("staging")
    assert record
    assert promotable.head("staging") == record.commit == commit
    assert Ledger(promotable.clone).history("staging")[0].by == "Ada <ada@example.org>"


def test_a_change_that_is_published_twice_is_there_already(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    publish(remote, "promote", "staging", None, change)
    before = refs(promotable)
    assert publish(remote, "promote", "staging", None, change).startswith("already published: Promote ")
    assert refs(promotable) == before


def test_the_first_release_of_a_stack_makes_its_branch(team: Team, clone: Clone, remote: Remote) -> None:
    release = team.release()
    publish(remote, "promote", "staging", None, prepared_promotion(team, clone))
    assert team.head("staging") == release.commit


def test_a_rollback_is_published_though_it_goes_back(team: Team, clone: Clone, remote: Remote) -> None:
    first = team.release("prod")
    team.release("prod", team.commit({"new": "1"}))
    publish(remote, "rollback", "prod", None, prepared_rollback(team, clone, "prod"))
    assert team.head("main") == first.commit


def test_a_promotion_cannot_be_published_as_a_rollback(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    with pytest.raises(HandoverError, match="the stack never ran this release"):
        publish(remote, "rollback", "staging", None, change)


def test_the_tests_of_a_commit_are_published_next_to_what_others_recorded(
    team: Team, clone: Clone, remote: Remote
) -> None:
    commit = team.clone.head()
    plan = Evidence(gate="plan", stack="prod", passed=True, by="Grace <grace@example.org>", at=NOW)
    Ledger(team.clone).put_evidence(commit, plan)
    run_tests(clone, silent)
    change = change_of(clone)
    # Another commit's evidence comes first.
    Ledger(team.clone).put_evidence("9" * 40, plan)
    publish(remote, "tests", None, commit, change)
    known = Ledger(team.clone).evidence(commit)
    assert [(one.gate, one.passed) for one in known] == [("plan", True), ("tests", True)]
    run_tests(clone, silent)
    publish(remote, "tests", None, commit, change_of(clone))
    assert len(Ledger(team.clone).evidence(commit)) == 2


@pytest.mark.parametrize("name", ["some-body[bot]", "a" * 39, "it's", "Zoë", "x y"])
def test_the_user_who_starts_a_workflow_is_recorded(
    team: Team, clone: Clone, remote: Remote, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GIT_COMMITTER_NAME", name)
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "12345678+" + "b" * 39 + "@users.noreply.github.com")
    run_tests(clone, silent)
    publish(remote, "tests", None, team.clone.head(), change_of(clone))
    assert Ledger(team.clone).evidence(team.clone.head())[0].by.startswith(f"{name} <")


def test_a_record_after_a_deployment_is_published(
    promotable: Team, clone: Clone, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(remote, "promote", "staging", None, prepared_promotion(promotable, clone))
    promotable.git("checkout", "--quiet", "-B", "staging", promotable.clone.head())
    record(clone, "staging", promotable.images, silent)
    publish(remote, "release", "staging", None, change_of(clone))
    found = promotable.record("staging")
    assert found
    assert found.deployed_at


def test_a_record_after_a_deployment_past_the_checks_is_published(
    promotable: Team, clone: Clone, remote: Remote
) -> None:
    present = promotable.record("staging")
    assert present
    forced = present.model_copy(update={"forced_by": "Ada, from 0: " + "because of it, " * 30})
    Ledger(promotable.clone).put_release(forced, present, "Deploy staging past the checks")
    promotable.git("checkout", "--quiet", "-B", "staging", present.commit)
    record(clone, "staging", promotable.images, silent)
    publish(remote, "release", "staging", None, change_of(clone))
    found = promotable.record("staging")
    assert found
    assert found.forced_by is None


def test_a_release_that_was_built_for_the_first_stack_is_published(team: Team, clone: Clone, remote: Remote) -> None:
    built = a_release(commit=team.clone.head(), deployed_at=NOW)
    Ledger(clone).put_release(built, None, "x runs in dev")
    publish(remote, "release", "dev", None, change_of(clone))
    assert team.record("dev") == built


def test_a_release_of_a_commit_that_is_in_no_branch_of_the_first_stack_is_refused(
    team: Team, clone: Clone, remote: Remote
) -> None:
    other = team.commit({"new": "1"}, push="feature")
    Ledger(clone).put_release(a_release(commit=other), None, "x runs in dev")
    with pytest.raises(HandoverError, match=rf"^the change is refused: {other[:12]} is not in dev; prepare it again"):
        publish(remote, "release", "dev", None, change_of(clone))


# Changes that an untrusted job prepared


def lines(text: str, **changes: str) -> str:
    """Return a record with changed values."""
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^( *){key}: .*$", rf"\g<1>{key}: {value}", text)
        assert count
    return text


def refuse(team: Team, remote: Remote, operation: str, stack: str, change: Change, reason: str) -> None:
    before = refs(team)
    with pytest.raises(HandoverError, match=reason):
        publish(remote, operation, stack, None, change)
    assert refs(team) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("digest", f"sha256:{'e' * 64}"),
        ("commit", "e" * 40),
        ("tag", "evil"),
        ("airflow_version", "0.0.1"),
        ("alembic_version", "0"),
        ("promoted_from", "{a: b}"),
        ("recorded_at", "'2026\n"),
        ("deployed_at", "|"),
        ("forced_by", "'x'"),
    ],
)
def test_a_promotion_of_another_release_than_the_stack_before_has_is_refused(
    promotable: Team, clone: Clone, remote: Remote, key: str, value: str
) -> None:
    change = prepared_promotion(promotable, clone)
    evil = replace(change, after=lines(change.after, **{key: value}))
    refuse(promotable, remote, "promote", "staging", evil, "^the change is refused: ")


def test_a_promotion_that_adds_lines_to_a_record_is_refused(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    for addition in (f"commit: {'e' * 40}\n", f'"commit": {"e" * 40}\n', "# note\n", "---\n"):
        evil = replace(change, after=change.after + addition)
        refuse(promotable, remote, "promote", "staging", evil, "^the change is refused: ")


def test_a_branch_does_not_go_to_another_commit_than_its_record(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    evil = promotable.commit({"evil": "1"}, push="feature")
    refuse(promotable, remote, "promote", "staging", replace(change, branch_after=evil), "moves to another commit than")
    refuse(
        promotable, remote, "promote", "staging", replace(change, branch="main", branch_before=None), "moves another"
    )
    unmoved = replace(change, branch=None, branch_before=None, branch_after=None)
    refuse(promotable, remote, "promote", "staging", unmoved, "is at another commit than the record")


def test_a_change_of_another_stack_or_file_is_refused(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    refuse(promotable, remote, "promote", "prod", change, "it is about another stack")
    for file in ("releases/prod.yaml", "releases/../evil", ".github/workflows/evil.yaml", "gates/x.yaml"):
        evil = replace(change, file=file, before=None)
        refuse(promotable, remote, "promote", "staging", evil, "it is about another stack")
    refuse(promotable, remote, "release", "staging", change, "it moves a branch")
    for stack in ("nope", "../staging", "--help", ""):
        refuse(promotable, remote, "promote", stack, change, "there is no stack|it is about another stack")


def test_a_promotion_does_not_take_a_branch_back(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    own = promotable.commit({"own": "1"}, push="staging")
    evil = replace(change, branch_before=own)
    refuse(promotable, remote, "promote", "staging", evil, "staging would not move forward")


def test_a_rollback_to_a_release_that_the_stack_never_ran_is_refused(team: Team, clone: Clone, remote: Remote) -> None:
    team.release("prod")
    failed = team.release("prod", team.commit({"new": "1"}), deployed_at=None)
    team.release("prod", team.commit({"new": "2"}))
    change = prepared_rollback(team, clone, "prod")
    evil = replace(change, after=lines(change.after, commit=failed.commit), branch_after=failed.commit)
    refuse(team, remote, "rollback", "prod", evil, "the stack never ran this release")


@pytest.mark.parametrize(
    ("found", "put", "reason"),
    [
        ("gate: tests", "gate: plan", "it is not evidence of tests"),
        ("stack: null", "stack: prod", "it is not evidence of tests"),
        ("- gate: tests", "- gate: plan\n  stack: prod\n  passed: true\n- gate: tests", "it changes other evidence"),
        ("passed: true", "passed: 1 == 1", "it is not evidence of tests"),
        ("# Written", "x: 1\n# Written", "it is not a list of evidence"),
    ],
)
def test_the_job_of_the_tests_records_nothing_but_the_tests(
    team: Team, clone: Clone, remote: Remote, found: str, put: str, reason: str
) -> None:
    run_tests(clone, silent)
    change = change_of(clone)
    evil = replace(change, after=change.after.replace(found, put))
    assert evil != change
    with pytest.raises(HandoverError, match=f"^the change is refused: {reason}; prepare it again with CHANGE=<file>$"):
        publish(remote, "tests", None, team.clone.head(), evil)


def test_the_job_of_the_tests_records_nothing_about_another_commit(team: Team, clone: Clone, remote: Remote) -> None:
    run_tests(clone, silent)
    with pytest.raises(HandoverError, match="it is not about the commit 9999"):
        publish(remote, "tests", None, "9" * 40, change_of(clone))


def test_evidence_of_others_is_not_removed(team: Team, clone: Clone, remote: Remote) -> None:
    commit = team.clone.head()
    plan = Evidence(gate="plan", stack="prod", passed=False, by="Grace <grace@example.org>", at=NOW)
    Ledger(team.clone).put_evidence(commit, plan)
    run_tests(clone, silent)
    change = change_of(clone)
    evil = replace(change, after=change.after.replace(change.after[change.after.index("- gate: plan") :], ""))
    with pytest.raises(HandoverError, match=r"^the change is refused: "):
        publish(remote, "tests", None, commit, evil)


# Concurrent changes


def test_what_changed_meanwhile_is_not_overwritten(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    promotable.release("staging", promotable.commit({"other": "1"}))
    refuse(promotable, remote, "promote", "staging", change, "^releases/staging.yaml has changed since the change")
    moved = replace(change, before=remote.text(remote.heads("releases")["releases"], change.file))
    refuse(promotable, remote, "promote", "staging", moved, "^staging has moved since the change was prepared: prep")


def test_a_push_after_a_concurrent_push_is_retried(
    promotable: Team, clone: Clone, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = prepared_promotion(promotable, clone)
    push = Remote.push
    overtaken: list[bool] = []

    def late(remote: Remote, moves: Any) -> str | None:
        if not overtaken:
            overtaken.append(True)
            Ledger(promotable.clone).note("Somebody else was quicker")
        return push(remote, moves)

    monkeypatch.setattr(Remote, "push", late)
    publish(remote, "promote", "staging", None, change)
    messages = promotable.git("log", "--format=%s", "-2", str(promotable.head("releases"))).splitlines()
    assert messages == [change.message, "Somebody else was quicker"]


def test_both_branches_move_or_neither(promotable: Team, clone: Clone, remote: Remote) -> None:
    change = prepared_promotion(promotable, clone)
    hook = promotable.remote / "hooks" / "update"
    hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/staging ]\n')
    hook.chmod(0o755)
    refuse(
        promotable,
        remote,
        "promote",
        "staging",
        change,
        r"^releases and staging cannot be pushed \(.*\): check that the key",
    )


# The commit of a release


def test_a_release_is_checked_out_by_its_own_commit(promotable: Team, remote: Remote) -> None:
    release = promotable.record("dev")
    assert release
    newer = promotable.commit({"newer": "1"})
    assert check_out(remote, "dev", None) == f"checked out {release.short}, the release of dev"
    assert (promotable.clone.head(), promotable.clone.branch()) == (release.commit, None)
    assert newer != release.commit
    check_out(remote, "staging", None)
    assert promotable.clone.branch() == "staging"
    assert promotable.clone.head() == promotable.head("staging")


def test_a_release_that_is_not_in_the_branch_of_its_stack_is_not_checked_out(team: Team, remote: Remote) -> None:
    here = team.clone.head()
    other = team.commit({"evil": "1"}, push="feature")
    Ledger(team.clone).put_release(a_release(commit=other), None, "x")
    with pytest.raises(HandoverError, match=rf"{other[:12]}, the release of dev, is not in dev"):
        check_out(remote, "dev", None)
    assert here != other


def test_a_deployment_waits_until_the_branch_has_moved(
    promotable: Team, clone: Clone, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = prepared_promotion(promotable, clone)
    monkeypatch.setattr(handover, "WAIT_SECONDS", 0)
    with pytest.raises(
        HandoverError, match=r"^the change of staging was not published within 0 s: rerun the workflow$"
    ):
        check_out(remote, "staging", change)
    monkeypatch.setattr(handover, "WAIT_SECONDS", 60)
    waited: list[float] = []

    def published(seconds: float) -> None:
        waited.append(seconds)
        publish(remote, "promote", "staging", None, change)

    monkeypatch.setattr("time.sleep", published)
    check_out(remote, "staging", change)
    assert len(waited) == 1
    assert promotable.clone.head() == change.branch_after


# The command line


def run(team: Team, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a Python that has only the standard library."""
    program = team.clone.folder / "ops" / "releases" / PROGRAM.name
    program.parent.mkdir(exist_ok=True)
    shutil.copy(PROGRAM, program)
    return subprocess.run(
        [sys.executable, "-I", "-S", str(program), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_program_needs_nothing_but_git_and_the_standard_library(promotable: Team, clone: Clone) -> None:
    prepared_promotion(promotable, clone)
    done = run(
        promotable, "publish", "--operation", "promote", "--change", str(clone.change_file), "--stack", "staging"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("published: Promote ")


def test_a_mistake_is_one_sentence(team: Team, tmp_path: Path) -> None:
    for text in (
        "",
        "{}",
        "[]",
        '{"file": 1}',
        json.dumps({"file": "a", "before": None, "after": "b", "message": "c", "branch_after": "-x"}),
    ):
        file = tmp_path / "change.json"
        file.write_text(text)
        done = run(team, "publish", "--operation", "promote", "--change", str(file), "--stack", "staging")
        assert done.returncode == 1
        assert re.fullmatch(
            r"error: the change in .* cannot be read \(.*\): prepare it again with CHANGE=<file>\n", done.stderr
        )


FAKE_SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$FAKE_SSH/arguments"
while [ "$1" != -i ]; do shift; done
cp -p "$2" "$FAKE_SSH/key"
for last; do :; done
case "$last" in
  git-receive-pack*) exec git-receive-pack "$FAKE_REMOTE" ;;
  git-upload-pack*) exec git-upload-pack "$FAKE_REMOTE" ;;
esac
"""


def test_the_key_is_used_for_github_only_and_deleted_afterwards(
    promotable: Team, clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared_promotion(promotable, clone)
    put_on_path(monkeypatch, tmp_path / "fake" / "ssh", FAKE_SSH)
    environment = {
        "FAKE_SSH": str(tmp_path / "fake"),
        "FAKE_REMOTE": str(promotable.remote),
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "example/team",
        "RELEASE_KEY": "the private half",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    (tmp_path / "tmp").mkdir()
    done = run(
        promotable,
        "publish",
        "--operation",
        "promote",
        "--change",
        str(clone.change_file),
        "--stack",
        "staging",
        **environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert promotable.head("staging") == promotable.clone.head()
    arguments = (tmp_path / "fake" / "arguments").read_text()
    assert "git@github.com" in arguments
    assert "'/example/team.git'" in arguments
    assert "StrictHostKeyChecking=yes" in arguments
    key = tmp_path / "fake" / "key"
    assert key.read_text() == "the private half\n"
    assert key.stat().st_mode & 0o077 == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_workflow_without_the_key_is_an_error(promotable: Team, clone: Clone) -> None:
    prepared_promotion(promotable, clone)
    before = refs(promotable)
    done = run(
        promotable,
        "publish",
        "--operation",
        "promote",
        "--change",
        str(clone.change_file),
        "--stack",
        "staging",
        GITHUB_ACTIONS="true",
        RELEASE_KEY="",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: RELEASE_KEY is empty: add the key to this job's environment")
    assert refs(promotable) == before


@pytest.mark.parametrize("arguments", [["promote", "dev", "staging"], ["rollback", "dev"], ["gate", "tests"]])
def test_every_command_writes_its_change_down_instead_of_pushing_it(
    promotable: Team,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "Clone", lambda: Clone(promotable.clone.folder))
    monkeypatch.setattr(command, "REGISTRIES", promotable.images)
    file = tmp_path / "change.json"
    file.write_text("of an earlier run")
    promotable.release(commit=promotable.commit({"newest": "1"}))
    before = refs(promotable)
    monkeypatch.setattr(sys, "argv", ["ops", *arguments, "--change", str(file)])
    app.main()
    assert Change.read(file).message
    assert refs(promotable) == before
    assert f"nothing is pushed yet: `make publish` pushes the change in {file}" in capsys.readouterr().out


@pytest.mark.parametrize("to", ["$(touch x)", "abc; id", "main", "0" * 41, "--all", "HEAD~1", "`id`", "0123abc\nx"])
def test_a_rollback_to_an_invalid_commit_is_refused(team: Team, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    monkeypatch.setattr(command, "Clone", lambda: Clone(team.clone.folder))
    team.release("prod")
    monkeypatch.setattr(sys, "argv", ["ops", "rollback", "prod", f"--to={to}"])
    with pytest.raises(SystemExit, match=r"^error: .* is not a commit: use the hash that `make releases"):
        app.main()
