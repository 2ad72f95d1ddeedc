import errno
import grp
import json
import os
import pwd
import shutil
import stat
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.laptop import ownership
from ops.laptop.home import Home, write_atomically


def test_secrets_are_generated_once_and_readable_only_by_their_owner(home: Home) -> None:
    first = home.secrets
    assert Home(home.root).secrets == first
    assert stat.S_IMODE((home.root / "secrets.json").stat().st_mode) == 0o600
    assert len(set(first.__dict__.values())) == len(first.__dict__)


def test_two_homes_share_no_secret(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("one", "two")]
    for home in homes:
        home.create()
    assert not set(homes[0].secrets.__dict__.values()) & set(homes[1].secrets.__dict__.values())


def test_a_second_command_on_the_same_home_must_wait(home: Home) -> None:
    with home.lock(), pytest.raises(OperationError, match="another command is at work"), home.lock():
        pass


def test_the_error_names_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = Home(tmp_path / "file" / "home")
    with pytest.raises(OperationError, match=r"file/home cannot be written .* LAPTOP_HOME"):
        home.create()
    with pytest.raises(OperationError, match=r"file/home cannot be written .* LAPTOP_HOME"), home.lock():
        pass


def test_the_error_for_a_full_disk_names_the_variable(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with (
        pytest.raises(OperationError, match=r"No space left on device.* LAPTOP_HOME"),
        home.writing(),
    ):
        write_atomically(home.root / "ports.json", "{}")


def test_an_error_outside_the_home_is_not_converted(home: Home, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), home.writing():
        (tmp_path / "elsewhere" / "file").read_text()


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ports.json"
    write_atomically(path, "old")

    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_a_home_is_closed_to_other_users_with_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home(tmp_path / "home")
        home.create()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home.root, *home.root.iterdir())} == {0o700}


def test_a_home_of_an_earlier_version_is_closed_to_other_users(home: Home) -> None:
    home.root.chmod(0o755)
    home.check()
    home.close(traversing_group=None)
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700


def test_one_group_may_traverse_a_home_but_not_list_it(home: Home) -> None:
    home.close(traversing_group=os.getgid())
    assert (stat.S_IMODE(home.root.stat().st_mode), home.root.stat().st_gid) == (0o710, os.getgid())


def test_a_home_of_another_user_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(OperationError, match=f"{home.root} belongs to the user {owner}"):
        home.check()


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777])
def test_a_home_that_is_writable_for_others_is_refused(home: Home, mode: int) -> None:
    for folder in (home.root, home.records):
        folder.chmod(mode)
        with pytest.raises(OperationError, match=f"other users may write to {folder}.* LAPTOP_HOME"):
            home.check()
        folder.chmod(0o700)
    home.check()


def test_a_group_with_other_members_counts_as_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    groups = {
        "of one user": grp.struct_group((me, "x", 5000, [])),
        "of a team": grp.struct_group(("team", "x", 5000, [])),
        "of two users": grp.struct_group((me, "x", 5000, ["another"])),
    }
    status = os.stat_result((0o40770, 0, 0, 0, os.geteuid(), 5000, 0, 0, 0, 0))
    refused = {}
    for name, group in groups.items():
        monkeypatch.setattr(grp, "getgrgid", lambda _, group=group: group)
        refused[name] = ownership.others_may_write(status)
    assert refused == {"of one user": False, "of a team": True, "of two users": True}


@pytest.mark.parametrize(("mode", "safe"), [(0o777, False), (0o1777, True), (0o755, True)])
def test_a_folder_in_which_others_may_replace_the_home_is_refused(tmp_path: Path, mode: int, safe: bool) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    home = Home(tmp_path / "shared" / "mine" / "home")
    if safe:
        home.check()
    else:
        with pytest.raises(OperationError, match=r"other users may write to .*shared and replace the home"):
            home.check()


def test_a_folder_with_other_files_is_not_a_home_and_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(OperationError, match="has files that `make up` did not create"):
        Home(tmp_path).check()


def test_a_home_remains_a_home_until_everything_else_is_deleted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            home.delete()
    home.check()
    home.delete()
    assert not home.root.exists()


@pytest.mark.parametrize("name", ["caf\udce9", "line\nbreak", "$HOME", "${HOME}/x"])
def test_a_folder_name_that_a_service_does_not_support_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperationError, match=r"LAPTOP_HOME=.*: choose another folder"):
        Home(tmp_path / name).check()


def test_a_new_secret_is_added_to_an_existing_home(home: Home) -> None:
    kept = home.secrets.__dict__
    file = home.root / "secrets.json"
    file.write_text(json.dumps({name: value for name, value in kept.items() if not name.startswith("mlflow_")}))
    later = Home(home.root).secrets
    assert {name: value for name, value in later.__dict__.items() if not name.startswith("mlflow_")} == {
        name: value for name, value in kept.items() if not name.startswith("mlflow_")
    }
    assert later.mlflow_admin != kept["mlflow_admin"]
    assert Home(home.root).secrets == later
    assert file.stat().st_mode & 0o777 == 0o600
