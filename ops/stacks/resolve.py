"""Find a stack by its name."""

from __future__ import annotations

from infra.preview_names import is_preview
from infra.previews.settings import load_preview
from infra.settings import ExistingClusterSettings, StackSettings, load, load_aws
from ops.console import Echo
from ops.stacks.aws_stack import AwsStack
from ops.stacks.existing_cluster_stack import ExistingClusterStack
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.preview_stack import PreviewStack
from ops.stacks.stack import Stack


def resolve_running(name: str, echo: Echo) -> Stack:
    """Return a stack, or the stack of a preview environment, whose cluster responds.

    Raises:
        SettingsError: The settings are missing or invalid.
        ContextError: The settings do not allow the current context.
        OperationError: There is no cluster, or it does not respond.
    """
    stack = resolve_any(name, echo)
    stack.cluster.check()
    return stack


def resolve_any(name: str, echo: Echo) -> Stack:
    """Return a stack, or the stack of a preview environment.

    Raises:
        SettingsError: The settings are missing or invalid.
    """
    if not is_preview(name):
        return resolve(name, echo)
    settings = load_preview(name)
    return PreviewStack(resolve(settings.base, echo), settings)


def resolve(name: str, echo: Echo) -> PlatformStack:
    """Return a stack that has a settings file.

    Raises:
        SettingsError: The settings are missing or invalid.
    """
    return stack_with(name, load(name), echo)


def resolve_aws(name: str, echo: Echo) -> AwsStack:
    """Return a stack on AWS.

    Raises:
        SettingsError: The settings are missing or invalid, or the stack runs on an existing cluster.
    """
    return AwsStack(name, load_aws(name), echo)


def stack_with(name: str, settings: StackSettings, echo: Echo) -> PlatformStack:
    """Return the stack with these settings."""
    if isinstance(settings, ExistingClusterSettings):
        return ExistingClusterStack(name, settings, echo)
    return AwsStack(name, settings, echo)
