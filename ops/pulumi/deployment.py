"""Run Pulumi for one stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.kubernetes.watch import Watcher

LOOK_SECONDS = 3
# Pulumi ends what it has begun, and writes down what it has made.
CANCEL_SECONDS = 60


@dataclass(frozen=True)
class Deployment:
    """A stack with all that Pulumi needs to work on it.

    Attributes:
        stack: Its name.
        program: The Pulumi CLI.
        environment: What the CLI finds in its environment; None takes a variable of the user's away.
        folder: The project's folder.
    """

    stack: str
    program: str
    environment: Mapping[str, str | None]
    folder: Path = field(default_factory=lambda: REPOSITORY, kw_only=True)

    def run(self, *arguments: str, watch: Watcher | None = None) -> None:
        """Run the CLI on the terminal; `watch` may end it.

        Raises:
            OperationError: It failed; its own words are on the terminal.
        """
        process = subprocess.Popen([*self._command(*arguments)], cwd=self.folder, env=self._environment())
        reason = None
        while process.poll() is None:
            try:
                process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if watch and reason is None and (reason := watch()):
                    _cancel(process)
            except KeyboardInterrupt:
                process.wait()  # the terminal has sent it the same signal
                raise
        if reason:
            raise OperationError(reason)
        if process.returncode != 0:
            raise OperationError(f"`pulumi {' '.join(arguments[:2])}` failed; its own words are above")

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, secret ones too.

        Raises:
            OperationError: They cannot be read.
        """
        return dict(json.loads(self.answer("stack", "output", "--json", "--show-secrets", "--non-interactive")))

    def refresh_report(self, leave_out: Sequence[str] = ()) -> Mapping[str, Any]:
        """Return what a refresh would write into the state, as Pulumi's own JSON tells it; nothing is written.

        Args:
            leave_out: The URNs of resources that are not looked at.

        Raises:
            OperationError: What is there cannot be asked for.
        """
        excluded = [word for urn in leave_out for word in ("--exclude", urn)]
        result = self._captured("refresh", "--preview-only", "--json", "--non-interactive", *excluded)
        try:
            report = dict(json.loads(result.stdout))
        except ValueError:  # it failed before it could say so in JSON
            report = {}
        if result.returncode != 0 or not report:
            told = [entry["message"] for entry in report.get("diagnostics", ()) if entry["severity"] == "error"]
            reason = " ".join("".join(told).split()) or result.stderr.strip()
            raise OperationError(f"{self.stack} cannot be compared with what is there: {reason}")
        return report

    def answer(self, *arguments: str) -> str:
        """Return what the CLI prints.

        Raises:
            OperationError: It failed.
        """
        result = self._captured(*arguments)
        if result.returncode != 0:
            raise OperationError(f"the state of {self.stack} cannot be read: {result.stderr.strip()}")
        return result.stdout

    def _captured(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = self._command(*arguments), self._environment()
        return subprocess.run(command, check=False, cwd=self.folder, env=environment, capture_output=True, text=True)

    def _command(self, *arguments: str) -> list[str]:
        return [self.program, *arguments, "--stack", self.stack]

    def _environment(self) -> dict[str, str]:
        merged = {**os.environ, **self.environment}
        return {name: value for name, value in merged.items() if value is not None}


def _cancel(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(CANCEL_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # the second one ends it at once
        process.wait()
