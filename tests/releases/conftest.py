import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .team import Team, environment, make_team, resources


@pytest.fixture(scope="session")
def first_commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The initial folders of a team."""
    folder = tmp_path_factory.mktemp("team")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value)
        make_team(folder)
    return folder


@pytest.fixture
def team(first_commit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return copy_of(first_commit, tmp_path / "team")


def copy_of(folder: Path, target: Path) -> Team:
    """A copy of a team's folders, with a clone of the copied remote."""
    shutil.copytree(folder, target)
    team = Team(target)
    team.git("remote", "set-url", "origin", str(team.remote))
    return team


@pytest.fixture
def gateways() -> Callable[..., str]:
    """Set the plan's resources to NAT gateways with these names."""
    return resources
