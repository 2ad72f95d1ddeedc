"""The targets of the Makefile, their variables, and the programs that they start."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.cli.app import loaded
from ops.process_environment import PARAMETERS
from tests.programs import write_program

REPOSITORY = Path(__file__).resolve().parents[1]

TARGET = re.compile(r"^([a-z0-9-]+):.*## .*\n((?:\t.*\n)*)", re.MULTILINE)
# A make command on a page or in a workflow: the target and its variables.
COMMAND = re.compile(r"""\bmake ([a-z][a-z0-9-]+)\b((?: [A-Z_]+=(?:"[^"]*"|[^\s`;,)]*))*)""")
VARIABLE = re.compile(r"([A-Z_]+)=")
# Variables of targets that do not run a command of `ops`.
OTHERS = {
    "publish": ("OPERATION", "STACK", "CHANGE", "COMMIT"),
    "check-out": ("STACK", "CHANGE"),
    "requirements": ("UPGRADE",),
}
PREREQUISITES = (
    *(f"requirements/{file.name}" for file in REPOSITORY.glob("requirements/*.txt")),
    "pyproject.toml",
    "ops/environments.py",
)
RECORDER = """#!{python} -IS
import json, os, sys
with open({calls!r}, "a") as file:
    file.write(json.dumps([[os.path.basename(sys.argv[0]), *sys.argv[1:]], dict(os.environ)]) + "\\n")
"""


@dataclass(frozen=True)
class Call:
    """A started program: its name, arguments and environment."""

    words: list[str]
    environment: dict[str, str]

    @property
    def module(self) -> str:
        """The module that Python runs."""
        return self.words[self.words.index("-m") + 1]

    @property
    def arguments(self) -> list[str]:
        """The arguments of the module, or of the file that an isolated Python runs."""
        return self.words[3:] if self.words[1] == "-I" else self.words[self.words.index("-m") + 2 :]


class Sandbox:
    """The Makefile with programs that only record their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        shutil.copy(REPOSITORY / "Makefile", folder)
        for name in PREREQUISITES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        recorder = RECORDER.format(python=sys.executable, calls=str(self._calls))
        self.python = write_program(folder / ".venv/bin/python", recorder)
        for program in ("zizmor", "lint-imports"):
            write_program(folder / ".venv/bin" / program, recorder)
        for name in (".venv", ".venv-mlflow", ".venv-scan", ".venv-soda", ".venv-zenml"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "ready").touch()

    def make(self, *arguments: str, **environment: str) -> "Made":
        """Run make with these arguments and environment variables."""
        return self.run(["make", *arguments], **environment)

    def run(self, command: list[str], **environment: str) -> "Made":
        """Run a command without the environment variables of the test run."""
        self._calls.write_text("")
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **environment},
            check=False,
            capture_output=True,
            text=True,
        )
        calls = [Call(*json.loads(line)) for line in self._calls.read_text().splitlines()]
        return Made(done.returncode, done.stderr, calls)


@dataclass(frozen=True)
class Made:
    """The exit code and standard error of a command, and the programs that it started."""

    code: int
    error: str
    calls: list[Call]


def targets() -> Mapping[str, frozenset[str]]:
    """Return each target with the variables that its program reads."""
    text = (REPOSITORY / "Makefile").read_text()
    return {name: variables(name, recipe) for name, recipe in TARGET.findall(text)}


def variables(target: str, recipe: str) -> frozenset[str]:
    """Return the variables that the program of a recipe reads."""
    if "$(ops) " in recipe:
        return frozenset(str(each.envvar) for each in loaded(target).params if getattr(each, "envvar", None))
    found = {"PYTHON"} if "$(first_python)" in recipe or "$(handover)" in recipe else set()
    return frozenset(found | set(OTHERS.get(target, ())))


def parsed(call: Call) -> dict[str, Any]:
    """Return the parameters that a command of `ops` parses from its arguments and environment."""
    command, *arguments = call.arguments
    with pytest.MonkeyPatch.context() as patch:
        for name in PARAMETERS:
            patch.delenv(name, raising=False)
        for name in call.environment.keys() & set(PARAMETERS):
            patch.setenv(name, call.environment[name])
        return dict(loaded(command).make_context(command, arguments).params)


def mistakes(text: str) -> list[str]:
    """Return the make commands in a text with unknown targets or unused variables."""
    known = targets()
    found = []
    for target, variables in COMMAND.findall(text):
        if target not in known:
            found.append(f"make {target}")
        else:
            found += [f"make {target} {name}=" for name in VARIABLE.findall(variables) if name not in known[target]]
    return found
