import shutil
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.releases.clone import Clone, Move
from tests.programs import write_program

from .team import Team


def test_a_clone_without_the_remote_is_named(team: Team) -> None:
    team.git("remote", "remove", "origin")
    with pytest.raises(OperationError, match=r"clone has no remote origin: `git remote add origin <address"):
        team.clone.fetch("dev")


def test_a_remote_that_cannot_be_reached_is_named_with_gits_own_words(team: Team) -> None:
    shutil.rmtree(team.remote)
    with pytest.raises(OperationError, match=r"^the remote origin cannot be read \(.*does not appear to be a git repo"):
        team.clone.fetch("dev")


def test_a_folder_that_is_no_clone_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="not a git repository"):
        Clone(tmp_path).dirty()


def test_a_missing_git_is_named(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OperationError, match=r"^git is not on PATH: install it$"):
        team.clone.head()


def test_somebody_whom_git_does_not_know_is_told_how_to_say_so(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    assert team.clone.identity() == "Ada <ada@example.org>"
    monkeypatch.setenv("EMAIL", "root@build-machine.example")  # Git would take it, and the name of the machine's user
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    with pytest.raises(OperationError, match=r"^git does not know who you are: .*git config user.name"):
        team.clone.identity()


def test_fetching_moves_no_reference_of_the_clone_and_leaves_out_what_is_not_there(team: Team) -> None:
    other = other_clone(team)
    commit = team.commit({"new": "1"})
    before = team.git("for-each-ref", folder=other.folder)
    assert other.fetch("dev", "main") == {"dev": commit}
    assert team.git("for-each-ref", folder=other.folder) == before
    assert other.is_ancestor(other.head(), commit)


def test_a_shallow_clone_is_completed(team: Team) -> None:
    first = team.clone.head()
    team.commit({"new": "1"})
    shallow = team.folder / "shallow"
    team.git("clone", "--quiet", "--depth=1", "--branch=dev", f"file://{team.remote}", str(shallow))
    assert Clone(shallow).is_ancestor(first, Clone(shallow).fetch("dev")["dev"])


def test_a_commit_that_is_in_no_branch_any_more_is_brought(team: Team) -> None:
    team.git("config", "uploadpack.allowAnySHA1InWant", "true", folder=team.remote)
    first, other = team.clone.head(), other_clone(team)
    lost = team.commit({"new": "1"})
    team.git("push", "--quiet", "--force", "origin", f"{first}:refs/heads/dev")
    other.ensure(lost)
    assert other.read([f"{lost}:new"]) == ["1"]


def test_files_of_a_commit_are_read_and_one_that_is_not_there_is_none(team: Team) -> None:
    commit = team.commit({"two lines": "ä\nb\n", "empty": ""})
    names = [f"{commit}:{name}" for name in ("two lines", "none", "empty", "resources.json")]
    text, none, empty, last = team.clone.read(names)
    assert (text, none, empty) == ("ä\nb\n", None, "")
    assert last
    assert last.startswith("{")


def test_branches_move_together_or_not_at_all(team: Team) -> None:
    first = team.clone.head()
    second = team.commit({"new": "1"}, push=None)
    wrong = Move("dev", second, second)
    assert not team.clone.push(Move("other", None, second), wrong)
    assert (team.head("dev"), team.head("other")) == (first, None)
    assert team.clone.push(Move("other", None, second), Move("dev", first, second))
    assert (team.head("dev"), team.head("other")) == (second, second)


def test_a_branch_goes_back_only_from_where_it_was_seen(team: Team) -> None:
    first = team.clone.head()
    second = team.commit({"new": "1"})
    third = team.commit({"new": "2"})
    assert not team.clone.push(Move("dev", second, first))
    assert team.head("dev") == third
    assert team.clone.push(Move("dev", third, first))
    assert team.head("dev") == first


def test_a_push_whose_answer_was_lost_is_known_to_have_worked(team: Team) -> None:
    """The remote dies after it moved the branch, and before it says so."""
    write_hook(team, "post-receive", "kill -KILL $PPID")
    first = team.clone.head()
    second = team.commit({"new": "1"}, push=None)
    assert team.clone.push(Move("dev", first, second))
    assert team.head("dev") == second


def test_a_remote_that_refuses_a_push_is_named_with_its_own_words(team: Team) -> None:
    write_hook(team, "pre-receive", "exit 1")
    first = team.clone.head()
    commit = team.commit({"new": "1"}, push=None)
    sentence = (
        r"^origin does not let dev be moved \(.*pre-receive hook declined\)\): see that your account may push there$"
    )
    with pytest.raises(OperationError, match=sentence):
        team.clone.push(Move("dev", first, commit))


def write_hook(team: Team, name: str, command: str) -> None:
    write_program(team.remote / "hooks" / name, f"#!/bin/sh\n{command}\n")


def other_clone(team: Team) -> Clone:
    folder = team.folder / "other"
    team.git("clone", "--quiet", "--branch=dev", str(team.remote), str(folder))
    return Clone(folder)
