import os
import stat
from pathlib import Path

import pytest

from infra.errors import OperationError
from infra.laptop.home import Home, write_atomically


def test_secrets_are_generated_once_and_readable_by_their_owner_alone(home: Home) -> None:
    first = home.secrets
    assert Home(home.root).secrets == first
    assert stat.S_IMODE((home.root / "secrets.json").stat().st_mode) == 0o600
    assert len(set(first.__dict__.values())) == len(first.__dict__)


def test_two_homes_share_no_secret(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("one", "two")]
    for home in homes:
        home.create()
    assert not set(homes[0].secrets.__dict__.values()) & set(homes[1].secrets.__dict__.values())


def test_a_second_command_on_the_same_home_is_told_to_wait(home: Home) -> None:
    with home.lock(), pytest.raises(OperationError, match="another command is at work"), home.lock():
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperationError, match="file/home cannot be written"):
        Home(tmp_path / "file" / "home").create()


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ports.json"
    write_atomically(path, "old")

    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
