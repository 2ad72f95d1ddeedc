import os
import subprocess
from pathlib import Path

import pytest

from infra.settings.loading import REPOSITORY


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a target with a program that prints its arguments instead of the command."""
    command = ["make", "--assume-old=.venv/ready", "PREVIEWS=printf '%s|'", *arguments]
    # The tests may run under a make of their own, which hands down its variables.
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True)


def test_the_stack_is_dev_unless_another_is_named() -> None:
    assert make("preview-env", "BRANCH=feature/x").stdout == "up|dev|feature/x|"
    assert make("preview-env", "BRANCH=feature/x", "STACK=local", "HOURS=5").stdout == "up|local|feature/x|--hours|5|"
    assert make("preview-env-gc").stdout == "gc|dev|"


@pytest.mark.parametrize("target", ["preview-env", "preview-env-down"])
def test_a_branchs_name_is_never_run(target: str, tmp_path: Path) -> None:
    file = tmp_path / "run"
    name = f'x`touch {file}`$(shell touch {file})$(touch {file})";touch {file};"'
    done = make(target, f"BRANCH={name}")
    assert done.stdout == f"{'up' if target == 'preview-env' else 'down'}|dev|{name}|"
    assert not file.exists()


@pytest.mark.parametrize("target", ["preview-env", "preview-env-down"])
def test_a_branch_that_is_not_named_is_asked_for(target: str) -> None:
    refused = make(target)
    assert refused.returncode != 0
    assert f"name the branch: make {target} BRANCH=feature/x" in refused.stderr
