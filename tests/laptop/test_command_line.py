import subprocess
import sys
from pathlib import Path

import pytest

from ops.laptop.home import DEFAULT_HOME


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one-sentence error of a command."""
    assert result.returncode == 1, result.stdout
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.mark.parametrize("command", ["up", "down", "clean", "status", "login", "logs", "roll-out"])
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"Usage: ops {command} " in result.stdout


def test_status_and_logs_before_the_first_start_explain_what_to_do(tmp_path: Path) -> None:
    for arguments in (("status",), ("login",), ("logs", "scheduler")):
        sentence(run(*arguments, "--home", str(tmp_path)))


def test_down_before_the_first_start_stops_nothing_and_succeeds(tmp_path: Path) -> None:
    result = run("down", "--home", str(tmp_path / "home"))
    assert (result.returncode, result.stdout) == (0, "nothing was running\n")


@pytest.mark.parametrize("command", ["up", "down", "clean"])
def test_the_error_for_a_home_that_cannot_be_written_names_the_variable(tmp_path: Path, command: str) -> None:
    (tmp_path / "f").write_text("")
    for place in ("f", "f/x", "f/x/y", "x" * 300):
        assert "LAPTOP_HOME" in sentence(run(command, "--home", str(tmp_path / place)))


def test_a_wrong_param_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    assert "epoch" in sentence(run("up", "--home", str(tmp_path / "home"), "--params", "epoch=9"))
    assert not (tmp_path / "home").exists()


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ops", "up", "--help"]
    shown = [
        subprocess.run(command, env={"LAPTOP_HOME": home}, check=True, capture_output=True, text=True).stdout
        for home in ("", str(DEFAULT_HOME))
    ]
    assert shown[0] == shown[1]


def test_images_and_params_are_refused_with_a_demo_that_does_not_read_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for arguments in (("--images", str(tmp_path)), ("--params", "epochs=1")):
        assert "DEMO=flights" in sentence(run("up", "--home", str(home), "--demo", "flights", *arguments))
    assert not home.exists()


def test_a_tilde_that_the_shell_did_not_expand_is_the_home_folder(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "LAPTOP_HOME": "~/laptop"}
    command = [sys.executable, "-m", "ops", "up", "--images", "~/pictures"]
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert f"IMAGES={tmp_path}/pictures is not a readable folder" in sentence(result)
    result = subprocess.run([*command[:3], "status"], env=environment, check=False, capture_output=True, text=True)
    assert f"nothing was ever started in {tmp_path}/laptop" in sentence(result)
