"""The Pulumi deployment of a stack on AWS: its state, key, account and region."""

from __future__ import annotations

from dataclasses import dataclass

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import Settings, load_aws
from ops.aws.account import Account, account_of, aws_errors
from ops.console import Echo
from ops.pulumi.backend import Backend, backend_of
from ops.pulumi.bootstrap import bucket_exists
from ops.pulumi.deployment import Deployment
from ops.pulumi.pulumi_cli import pulumi_command


@dataclass(frozen=True)
class AwsDeployment(Deployment):
    """The Pulumi deployment of a stack on AWS.

    Attributes:
        settings: The settings of the stack.
        account: The AWS account of the stack.
    """

    settings: Settings
    account: Account

    @classmethod
    def of(cls, stack: str, echo: Echo) -> AwsDeployment:
        """Check the settings, the account and the state bucket, and select the stack.

        Raises:
            SettingsError: The settings are missing or invalid.
            OperationError: The account is the wrong one, or `make bootstrap` was not run.
        """
        settings = load_aws(stack)
        account = account_of(stack, settings)
        backend = backend_of(stack, account.id, account.region)
        with aws_errors():
            if not bucket_exists(account, backend.bucket):
                raise OperationError(f"s3://{backend.bucket} does not exist: run `make bootstrap STACK={stack}` first")
        found = cls(stack, pulumi_command(echo).command, environment(backend), settings, account)
        file = REPOSITORY / f"Pulumi.{stack}.yaml"
        before = file.read_text()
        found.run("stack", "select", "--create", "--secrets-provider", backend.secrets_provider)
        if file.read_text() != before:
            echo(f"{file.name} now contains the stack's encrypted key: commit it, others need it to deploy")
        return found


def environment(backend: Backend) -> dict[str, str | None]:
    """Return Pulumi's environment: the state's address, the region, and no update check."""
    return {
        "PULUMI_BACKEND_URL": backend.url,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "AWS_REGION": backend.region,
        "AWS_DEFAULT_REGION": backend.region,
    }
