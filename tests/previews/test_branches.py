import os
import subprocess
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.previews import environment
from ops.previews.environment import check_exists

WITHOUT_SETTINGS = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
WHO = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with the branches main and feature/x, and a bare repository with the same branches."""
    for name, value in WITHOUT_SETTINGS.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "clone"

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], check=True, capture_output=True, env={**os.environ})

    git("init", "--quiet", "--initial-branch", "main", str(folder))
    git("-C", str(folder), *WHO, "commit", "--quiet", "--allow-empty", "--message", "begin")
    git("-C", str(folder), "branch", "feature/x")
    git("clone", "--quiet", "--bare", str(folder), str(tmp_path / "remote.git"))
    git("-C", str(folder), "branch", "only-here")
    monkeypatch.setattr(environment, "REPOSITORY", folder)
    return folder


def test_an_existing_branch_is_accepted(clone: Path) -> None:
    remote = str(clone.parent / "remote.git")
    check_exists("feature/x", None)
    check_exists("only-here", None)
    check_exists("feature/x", remote)
    with pytest.raises(OperationError, match=r"remote.git has no branch only-here: push it, or correct its name$"):
        check_exists("only-here", remote)


def test_a_branch_that_only_ends_alike_is_another(clone: Path) -> None:
    with pytest.raises(OperationError, match="has no branch x"):
        check_exists("x", str(clone.parent / "remote.git"))


def test_a_branch_that_this_clone_lacks_is_refused(clone: Path) -> None:
    with pytest.raises(OperationError, match=r"^this clone has no branch feature/y: fetch it"):
        check_exists("feature/y", None)


def test_an_unreadable_repository_is_an_error(clone: Path) -> None:
    with pytest.raises(OperationError, match=r"^the branches of .*nowhere.git cannot be read \(.+\): check your acc"):
        check_exists("feature/x", str(clone.parent / "nowhere.git"))
