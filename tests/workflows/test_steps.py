"""Run the steps of all workflows in a shell and check that the programs accept the resulting commands."""

import argparse
import re
import runpy
import sys
from typing import Any

import pytest

from ops.process_environment import PARAMETERS
from tests.makefile import OTHERS, Call, Sandbox, parsed

from .parsed import Job, jobs

STEPS = [(job, step) for job in jobs() for step in job.steps if step.get("run", "").startswith("make ")]
# Values of the expressions in the environment of a step: a minimal and a full set.
VALUES = {
    "github.actor": ("octocat", "octo-cat[bot]"),
    "github.actor_id": ("1", "1"),
    "github.base_ref": ("dev", "release/2026"),
    "github.head_ref": ("fix", "feature/a-b_c.1"),
    "github.event.pull_request.head.repo.full_name == github.repository && github.event.number || ''": ("", "12"),
    "inputs.stack": ("dev", "prod"),
    "inputs.stack || 'dev'": ("dev", "prod"),
    "inputs.from": ("dev", "staging"),
    "inputs.to": ("", "0123abc"),
    "inputs.migration && 'migration' || ''": ("", "migration"),
    "inputs.database && 'database' || ''": ("", "database"),
    "inputs.database && '1' || ''": ("", "1"),
    "inputs.dry_run && '1' || ''": ("", "1"),
    "matrix.stack": ("dev", "prod"),
    "secrets.GITHUB_TOKEN": ("token", "token"),
    "secrets.RELEASE_KEY": ("", "key"),
    "github.token": ("token", "token"),
    "github.sha": ("0" * 40, "0123456789abcdef" * 2 + "01234567"),
}
OF_THE_RUNNER = {"RUNNER_TEMP": "/runner/temp"}
HANDOVER = ["-I", "ops/releases/handover.py"]


def name_of(value: object) -> str:
    return str(value["run"]) if isinstance(value, dict) else str(value)


class ParsedError(Exception):
    """Raised instead of running the program, after it parsed its arguments."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("sandbox"))


def filled(value: str, job: Job, index: int) -> str:
    def example(found: re.Match[str]) -> str:
        if (job.workflow, found[1]) == ("promote", "inputs.to"):
            return ("staging", "prod")[index]
        return VALUES[found[1]][index]

    return re.sub(r"\$\{\{ (.*?) \}\}", example, value)


def started(sandbox: Sandbox, command: str, environment: dict[str, str]) -> list[tuple[list[str], dict[str, str]]]:
    """Run a command in the sandbox and return the programs that it starts, with their arguments and variables."""
    read = {*PARAMETERS, *(name for names in OTHERS.values() for name in names)}
    return [
        (call.words, {name: value for name, value in call.environment.items() if name in read})
        for call in run(sandbox, command, environment)
    ]


def run(sandbox: Sandbox, command: str, environment: dict[str, str]) -> list[Call]:
    return sandbox.run(["bash", "-e", "-c", command], PYTHON=str(sandbox.python), **OF_THE_RUNNER, **environment).calls


def environment_of(job: Job, step: dict[str, Any], index: int) -> dict[str, str]:
    return {name: filled(value, job, index) for name, value in job.environment(step).items()}


@pytest.mark.parametrize("index", [0, 1], ids=["minimal", "full"])
@pytest.mark.parametrize(("job", "step"), STEPS, ids=name_of)
def test_a_step_starts_programs_with_valid_arguments(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, job: Job, step: dict[str, Any], index: int
) -> None:
    calls = run(sandbox, step["run"], environment_of(job, step, index))
    assert calls
    for call in calls:
        if call.words[1:3] == HANDOVER:
            check(monkeypatch, call)
        elif "-m" in call.words and call.module == "ops":
            parsed(call)  # raises an error for an argument or variable that the command does not know


@pytest.mark.parametrize(("job", "step"), STEPS, ids=name_of)
def test_every_variable_of_a_step_has_an_effect(sandbox: Sandbox, job: Job, step: dict[str, Any]) -> None:
    environment = environment_of(job, step, index=1)
    whole = started(sandbox, step["run"], environment)
    # make also reads its variables from the environment.
    alone = {name: value for name, value in environment.items() if f" {name}=" not in step["run"]}
    for variable in re.findall(r" [A-Z_]+=(?:\"[^\"]*\"|\S+)", step["run"]):
        shorter = step["run"].replace(variable, "")
        assert started(sandbox, shorter, alone | used(shorter, environment)) != whole, variable


def used(command: str, environment: dict[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in re.findall(r"\$([A-Z_]+)", command) if name not in OF_THE_RUNNER}


def check(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Let the program with the release key parse its arguments, but not run."""
    parse = argparse.ArgumentParser.parse_args

    def parsed_arguments(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise ParsedError(parse(parser))

    with monkeypatch.context() as patch:
        for name, value in call.environment.items():
            patch.setenv(name, value)
        patch.setattr(argparse.ArgumentParser, "parse_args", parsed_arguments)
        patch.setattr(sys, "argv", ["handover", *call.arguments])
        with pytest.raises(ParsedError):
            runpy.run_module("ops.releases.handover", run_name="__main__", alter_sys=True)
