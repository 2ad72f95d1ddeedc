import shutil
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.releases.clone import Clone, Move
from tests.programs import write_program

from .team import Team


def test_a_clone_without_the_remote_is_an_error(team: Team) -> None:
    team.git("remote", "remove", "origin")
    with pytest.raises(OperationError, match=r"clone has no remote origin: run `git remote add origin <repos"):
        team.clone.fetch("dev")


def test_an_unreachable_remote_is_an_error_with_gits_message(team: Team) -> None:
    shutil.rmtree(team.remote)
    with pytest.raises(OperationError, match=r"^the remote origin cannot be read \(.*does not appear to be a git repo"):
        team.clone.fetch("dev")


def test_a_folder_that_is_not_a_clone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="not a git repository"):
        Clone(tmp_path).dirty()


def test_a_missing_git_is_an_error(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OperationError, match=r"^git is not on PATH: install it$"):
        team.clone.head()


def test_a_missing_git_identity_is_an_error(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    assert team.clone.identity() == "Ada <ada@example.org>"
    monkeypatch.setenv("EMAIL", "root@build-machine.example")  # Git would use it together with the system user's name
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    with pytest.raises(OperationError, match=r"^git has no identity: run `git config user.name"):
        team.clone.identity()


def test_fetching_moves_no_reference_and_leaves_out_missing_branches(team: Team) -> None:
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


def test_a_commit_that_is_in_no_branch_is_fetched(team: Team) -> None:
    team.git("config", "uploadpack.allowAnySHA1InWant", "true", folder=team.remote)
    first, other = team.clone.head(), other_clone(team)
    lost = team.commit({"new": "1"})
    team.git("push", "--quiet", "--force", "origin", f"{first}:refs/heads/dev")
    other.ensure(lost)
    assert other.read([f"{lost}:new"]) == ["1"]


def test_files_of_a_commit_are_read_and_missing_ones_are_none(team: Team) -> None:
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
    """The remote dies after it has moved the branch and before it responds."""
    write_hook(team, "post-receive", "kill -KILL $PPID")
    first = team.clone.head()
    second = team.commit({"new": "1"}, push=None)
    assert team.clone.push(Move("dev", first, second))
    assert team.head("dev") == second


def test_a_refused_push_is_an_error_with_the_remotes_message(team: Team) -> None:
    write_hook(team, "pre-receive", "exit 1")
    first = team.clone.head()
    commit = team.commit({"new": "1"}, push=None)
    sentence = (
        r"^origin refused the push to dev \(.*pre-receive hook declined\)\): check that your account may push there$"
    )
    with pytest.raises(OperationError, match=sentence):
        team.clone.push(Move("dev", first, commit))


def write_hook(team: Team, name: str, command: str) -> None:
    write_program(team.remote / "hooks" / name, f"#!/bin/sh\n{command}\n")


def other_clone(team: Team) -> Clone:
    folder = team.folder / "other"
    team.git("clone", "--quiet", "--branch=dev", str(team.remote), str(folder))
    return Clone(folder)
