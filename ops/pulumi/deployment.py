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

from infra.documents import REPOSITORY, read_yaml
from infra.errors import OperationError
from ops.kubernetes.watch import Watcher
from ops.pulumi.locks import Lock, locks_of

POLL_INTERVAL_SECONDS = 3
# Time for Pulumi to finish running operations and save its state.
CANCEL_SECONDS = 60
# Commands that read the stack file and write the key's salt to it.
WITH_STACK_FILE = ("preview", "up", "refresh", "destroy")


@dataclass(frozen=True)
class Deployment:
    """A stack and what Pulumi needs to deploy it.

    Attributes:
        stack: The stack's name.
        program: The Pulumi CLI.
        environment: Environment variables for the CLI; None unsets a variable.
        secrets_provider: The key that encrypts the secrets in the state.
        folder: The project folder.
        config_folder: The folder for the file with the key's salt; None to keep it in the stack file.
    """

    stack: str
    program: str
    environment: Mapping[str, str | None]
    secrets_provider: str = "passphrase"
    folder: Path = field(default_factory=lambda: REPOSITORY, kw_only=True)
    config_folder: Path | None = field(default=None, kw_only=True)

    @property
    def stack_file(self) -> Path:
        """The file with the stack's settings."""
        return self.folder / f"Pulumi.{self.stack}.yaml"

    def select(self) -> None:
        """Select the stack; create it in the state if it does not exist.

        Raises:
            OperationError: The state cannot be read.
        """
        before = self.stack_file.read_bytes()
        try:
            self.answer("stack", "select", "--create", "--secrets-provider", self.secrets_provider)
        finally:
            # For a new stack, Pulumi formats the whole file to add the key.
            if self.stack_file.read_bytes() != before:
                self.stack_file.write_bytes(before)

    def keep_key(self) -> None:
        """Append the stack's encrypted key, which is in the state, to the stack file if it lacks the key.

        Raises:
            OperationError: The state cannot be read.
        """
        if has_key(self.stack_file):
            return
        key = json.loads(self.answer("stack", "export"))["deployment"]["secrets_providers"]["state"]
        with self.stack_file.open("a") as file:
            file.write(f"secretsprovider: {key['url']}\nencryptedkey: {key['encryptedkey']}\n")

    def run(self, *arguments: str, watch: Watcher | None = None) -> None:
        """Run the CLI on the terminal; cancel it if `watch` returns a reason.

        Raises:
            OperationError: The CLI failed or was cancelled.
        """
        process = subprocess.Popen([*self._command(*arguments)], cwd=self.folder, env=self._environment())
        reason = None
        while process.poll() is None:
            try:
                process.wait(POLL_INTERVAL_SECONDS)
            except subprocess.TimeoutExpired:
                if watch and reason is None and (reason := watch()):
                    _cancel(process)
            except KeyboardInterrupt:
                process.wait()  # the terminal sent it SIGINT, too
                raise
        if reason:
            raise OperationError(reason)
        if process.returncode != 0:
            self._check_lock()
            raise OperationError(f"`pulumi {' '.join(arguments[:2])}` failed: see the output above")

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, including secrets.

        Raises:
            OperationError: The state cannot be read.
        """
        return dict(json.loads(self.answer("stack", "output", "--json", "--show-secrets", "--non-interactive")))

    def exported(self) -> dict[str, Any]:
        """Return the stack's state; secrets in it are encrypted.

        Raises:
            OperationError: The state cannot be read.
        """
        return dict(json.loads(self.answer("stack", "export")))

    def replace_state(self, state: Mapping[str, Any]) -> None:
        """Replace the stack's state.

        Raises:
            OperationError: The state cannot be written.
        """
        result = self._captured("stack", "import", text=json.dumps(state))
        if result.returncode != 0:
            self._check_lock()
            raise OperationError(f"the state of {self.stack} cannot be written: {result.stderr.strip()}")

    def locks(self) -> list[Lock]:
        """Return the stack's locks.

        Raises:
            OperationError: The state cannot be read.
        """
        return locks_of(self.stack, str(self.environment["PULUMI_BACKEND_URL"]))

    def stopped_half_destroyed(self) -> bool:
        """Return whether the last command that ended was a destruction that failed.

        Raises:
            OperationError: The state cannot be read.
        """
        last = json.loads(self.answer("stack", "history", "--json", "--page-size", "1"))
        return any(update["kind"] == "destroy" and update["result"] == "failed" for update in last)

    def resources(self) -> list[dict[str, Any]]:
        """Return the resources in the stack's state.

        Raises:
            OperationError: The state cannot be read.
        """
        return list(self.exported()["deployment"].get("resources", ()))

    def ids(self) -> set[str]:
        """Return the IDs of the resources in the stack's state.

        Raises:
            OperationError: The state cannot be read.
        """
        return {resource["id"] for resource in self.resources() if "id" in resource}

    def objects(self) -> list[dict[str, Any]]:
        """Return the Kubernetes objects in the stack's state.

        Raises:
            OperationError: The state cannot be read.
        """
        return [
            dict(resource["outputs"])
            for resource in self.resources()
            if resource["type"].startswith("kubernetes:") and "kind" in resource.get("outputs", {})
        ]

    def refresh_report(self, leave_out: Sequence[str] = ()) -> Mapping[str, Any]:
        """Return Pulumi's JSON report of what a refresh would change; change nothing.

        Args:
            leave_out: The URNs of resources to skip.

        Raises:
            OperationError: The deployed resources cannot be read.
        """
        excluded = [word for urn in leave_out for word in ("--exclude", urn)]
        result = self._captured("refresh", "--preview-only", "--json", "--non-interactive", *excluded)
        try:
            report = dict(json.loads(result.stdout))
        except ValueError:  # it failed before it wrote JSON
            report = {}
        if result.returncode != 0 or not report:
            messages = [entry["message"] for entry in report.get("diagnostics", ()) if entry["severity"] == "error"]
            reason = " ".join("".join(messages).split()) or result.stderr.strip()
            raise OperationError(f"the state of {self.stack} cannot be compared with what is deployed: {reason}")
        return report

    def answer(self, *arguments: str) -> str:
        """Return the CLI's output.

        Raises:
            OperationError: The CLI failed.
        """
        result = self._captured(*arguments)
        if result.returncode != 0:
            raise OperationError(f"the state of {self.stack} cannot be read: {result.stderr.strip()}")
        return result.stdout

    def _check_lock(self) -> None:
        if locks := self.locks():
            raise OperationError(
                f"{self.stack} is locked by {' and '.join(map(str, locks))}: wait until that command has ended, or run "
                f"`make unlock STACK={self.stack}` if it was killed"
            )

    def _captured(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            check=False,
            cwd=self.folder,
            env=self._environment(),
            input=text,
            capture_output=True,
            text=True,
        )

    def _command(self, *arguments: str) -> list[str]:
        # The program reads the settings itself, so that Pulumi may read another file.
        file: tuple[str, ...] = ()
        if self.config_folder and arguments[0] in WITH_STACK_FILE:
            file = ("--config-file", str(self.config_folder / self.stack_file.name))
        return [self.program, *arguments, *file, "--stack", self.stack]

    def _environment(self) -> dict[str, str]:
        merged = {**os.environ, **self.environment}
        return {name: value for name, value in merged.items() if value is not None}


def has_key(stack_file: Path) -> bool:
    """Return whether a stack file contains the stack's encrypted key.

    Raises:
        DocumentError: The file cannot be read.
    """
    return "encryptedkey" in read_yaml(stack_file, dict[str, Any], empty={})


def _cancel(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(CANCEL_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # the second SIGINT terminates it immediately
        process.wait()
