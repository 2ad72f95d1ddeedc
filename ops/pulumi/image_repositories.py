"""Create the repositories of a stack's images before the rest of the stack, so that images can be pushed first."""

from __future__ import annotations

from functools import partial

import pulumi
from pulumi import automation

from infra.aws.account import Account
from infra.aws.registry import Registry
from infra.errors import OperationError
from infra.images import pinned
from infra.settings import PROJECT, Settings
from ops.console import Echo
from ops.pulumi.deployment import Deployment
from ops.pulumi.pulumi_cli import pulumi_command

# The component and everything in it. All other resources in the state are kept.
TARGETS = ("**::airflow:aws:Registry::registry", "**::airflow:aws:Registry$**")


def create_repositories(deployment: Deployment, settings: Settings, echo: Echo) -> None:
    """Create or update the repositories as resources of the stack, which its deployments then keep.

    Raises:
        OperationError: Pulumi failed.
    """
    echo(f"creating the image repositories of {deployment.stack}")
    environment = {name: value for name, value in deployment.environment.items() if value is not None}
    options = automation.LocalWorkspaceOptions(
        work_dir=str(deployment.folder), pulumi_command=pulumi_command(echo), env_vars=environment
    )
    try:
        stack = automation.select_stack(deployment.stack, project_name=PROJECT, program=lambda: None, opts=options)
        outputs = stack.outputs()
        program = partial(_program, deployment.stack, settings, outputs)
        stack.up(program=program, target=list(TARGETS), suppress_progress=True)
    except automation.CommandError as error:
        echo(str(error))
        raise OperationError(
            f"the image repositories of {deployment.stack} could not be created: see the output above"
        ) from error


def _program(stack: str, settings: Settings, outputs: automation.OutputMap) -> None:
    """Declare the registry as the stack's own program does, and keep the stack's outputs, which an update replaces."""
    Registry.of(stack, settings, Account.of(stack, settings), pinned.versions(stack))
    for name, output in outputs.items():
        pulumi.export(name, pulumi.Output.secret(output.value) if output.secret else output.value)
