"""A stack's state without its secrets, to detect drift with a role that cannot read secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import OperationError
from infra.settings import PROJECT
from ops.aws.account import aws_errors, error_code
from ops.plan.resources import SECRET
from ops.pulumi.deployment import Deployment
from ops.pulumi.pulumi_cli import pulumi_command
from ops.stacks.aws_stack import AwsStack

# How Pulumi marks a secret in its state:
# https://github.com/pulumi/pulumi/blob/v3.274.1/sdk/go/common/resource/sig.go
MARK, IS_SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
# Resources that contain only secrets: comparing them requires reading them, or they exist in the state only.
SECRET_KINDS = ("kubernetes:core/v1:Secret", "aws:secretsmanager/secretVersion:SecretVersion", "random:")


@contextmanager
def redacted(stack: AwsStack) -> Iterator[tuple[Deployment, list[str]]]:
    """Yield a stack with a copy of its state without secrets, and the resources that contain only secrets.

    Requires neither the key of the state's secrets nor write permissions.

    Raises:
        OperationError: The account is the wrong one, or the state cannot be read.
    """
    account, bucket = stack.account, stack.backend.bucket
    key = f".pulumi/stacks/{PROJECT}/{stack.name}.json"
    with aws_errors():
        try:
            found = account.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error_code(error) in ("NoSuchKey", "NoSuchBucket"):
                raise OperationError(
                    f"{stack.name} is not deployed (s3://{bucket} has no {key}): run `make deploy STACK={stack.name}`"
                ) from error
            raise
    deployment = without_secrets(json.loads(found)["checkpoint"]["latest"])
    with TemporaryDirectory(prefix="state-") as name:
        folder = Path(name)
        program = pulumi_command(stack.echo).command
        yield local(stack.name, deployment, folder, program, account.region), secret_urns(deployment)


def local(stack: str, deployment: Mapping[str, Any], folder: Path, program: str, region: str) -> Deployment:
    """Return a stack whose state is in a local folder.

    Raises:
        OperationError: Pulumi cannot import the state.
    """
    state, project, file = folder / "state", folder / "project", folder / "deployment.json"
    state.mkdir()
    project.mkdir()
    # A refresh runs no program.
    (project / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
    file.write_text(json.dumps({"version": 3, "deployment": deployment}))
    found = Deployment(
        stack,
        program,
        {
            "PULUMI_BACKEND_URL": f"file://{state}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_CONFIG_PASSPHRASE_FILE": None,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
        },
        folder=project,
    )
    found.answer("stack", "select", "--create", "--secrets-provider", "passphrase")
    found.answer("stack", "import", "--file", str(file))
    return found


def without_secrets(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return Pulumi's state with a placeholder for each secret, and without the secrets provider."""
    return {key: _redacted(value) for key, value in deployment.items() if key != "secrets_providers"}


def secret_urns(deployment: Mapping[str, Any]) -> list[str]:
    """Return the URNs of the resources that contain only secrets."""
    return [one["urn"] for one in deployment.get("resources", ()) if one["type"].startswith(SECRET_KINDS)]


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(MARK) == IS_SECRET:
            return SECRET
        return {key: _redacted(one) for key, one in value.items()}
    return [_redacted(one) for one in value] if isinstance(value, list) else value
