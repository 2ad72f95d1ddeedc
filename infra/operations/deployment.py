"""Run Pulumi for one stack: with its state, its key, its account and its region."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.operations.account import Account, account_of, aws_errors
from infra.operations.backend import Backend, backend_of
from infra.operations.bootstrap import bucket_exists
from infra.operations.errors import OperationError
from infra.operations.pulumi_cli import pulumi_command
from infra.settings import Settings, load
from infra.settings.loading import REPOSITORY

Say = Callable[[str], None]


@dataclass(frozen=True)
class Deployment:
    """A stack with all that Pulumi needs to work on it.

    Attributes:
        stack: Its name.
        settings: Its settings.
        account: Its account.
        program: The Pulumi CLI.
        environment: What the CLI finds in its environment.
    """

    stack: str
    settings: Settings
    account: Account
    program: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, stack: str, say: Say) -> Deployment:
        """Check the settings, the account and the state's place, and select the stack.

        Raises:
            SettingsError: The stack has no settings, or wrong ones.
            OperationError: The account is another one, or `make bootstrap` was not run.
        """
        settings = load(stack)
        account = account_of(stack, settings)
        backend = backend_of(stack, account.id, account.region)
        with aws_errors():
            if not bucket_exists(account, backend.bucket):
                raise OperationError(f"s3://{backend.bucket} is not there: run `make bootstrap STACK={stack}` first")
        found = cls(stack, settings, account, pulumi_command(say).command, environment(backend))
        file = REPOSITORY / f"Pulumi.{stack}.yaml"
        before = file.read_text()
        found.run("stack", "select", "--create", "--secrets-provider", backend.secrets_provider)
        if file.read_text() != before:
            say(f"{file.name} now names the stack's key: commit it, for without it nobody else can deploy the stack")
        return found

    def run(self, *arguments: str) -> None:
        """Run the CLI on the terminal.

        Raises:
            OperationError: It failed; its own words are on the terminal.
        """
        command = [self.program, *arguments, "--stack", self.stack]
        if subprocess.run(command, check=False, cwd=REPOSITORY, env={**os.environ, **self.environment}).returncode != 0:
            raise OperationError(f"`pulumi {' '.join(arguments[:2])}` failed; its own words are above")

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, secret ones too.

        Raises:
            OperationError: They cannot be read.
        """
        command = [
            self.program,
            "stack",
            "output",
            "--json",
            "--show-secrets",
            "--non-interactive",
            "--stack",
            self.stack,
        ]
        result = subprocess.run(
            command, check=False, cwd=REPOSITORY, env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        if result.returncode != 0:
            raise OperationError(f"the outputs of {self.stack} cannot be read: {result.stderr.strip()}")
        return dict(json.loads(result.stdout))


def environment(backend: Backend) -> dict[str, str]:
    """Return what Pulumi finds in its environment: where the state is, the region, and to ask nobody for updates."""
    return {
        "PULUMI_BACKEND_URL": backend.url,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "AWS_REGION": backend.region,
        "AWS_DEFAULT_REGION": backend.region,
    }
