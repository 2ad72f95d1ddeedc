import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import OperationError
from infra.laptop.__main__ import parameters


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.laptop", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_params_are_read_as_json_where_they_are_json_and_as_text_else() -> None:
    assert parameters("epochs=3 learning_rate=1e-3 prefix=images/x/ base_checkpoint=null") == {
        "epochs": 3,
        "learning_rate": 0.001,
        "prefix": "images/x/",
        "base_checkpoint": None,
    }
    assert parameters("") == {}


def test_a_param_without_a_value_is_refused() -> None:
    with pytest.raises(OperationError, match='PARAMS has the word "epochs"'):
        parameters("epochs 3")


@pytest.mark.parametrize("command", ["up", "down", "clean", "status", "logs", "roll-out"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"infra.laptop {command}" in result.stdout


def test_status_and_logs_before_the_first_start_say_what_to_do(tmp_path: Path) -> None:
    for arguments in (("status",), ("logs", "scheduler")):
        result = run("--home", str(tmp_path), *arguments)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr


def test_down_before_the_first_start_stops_nothing_and_succeeds(tmp_path: Path) -> None:
    result = run("--home", str(tmp_path / "home"), "down")
    assert (result.returncode, result.stdout) == (0, "nothing was running\n")
