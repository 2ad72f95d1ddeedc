"""The commands that create, list and remove preview environments."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from infra.preview_names import stack_name
from ops.cli.options import Branch, PreviewBase
from ops.console import echo
from ops.previews.base import records_of, resolve_base
from ops.previews.environment import bring_up
from ops.previews.garbage_collection import collect, list_environments, moment
from ops.previews.removal import remove

STACK = "dev"
HOURS = 72.0


def preview_env(
    branch: Branch,
    stack: PreviewBase = STACK,
    hours: Annotated[float, typer.Option(envvar="HOURS", help="Minimum lifetime in hours, from now.")] = HOURS,
) -> None:
    """Create the environment, or update it and extend its lifetime; print how to open it and when it expires."""
    base = resolve_base(stack, echo)
    settings = bring_up(base, branch, hours, echo)
    again = f"BRANCH={branch} STACK={base.name}"
    echo(
        f"open       make ui STACK={settings.stack}\n"
        f"objects    {settings.prefix} in the buckets of {base.name}\n"
        f"expires    {moment(settings.expires_at)}; extend with `make preview-env {again}`\n"
        f"remove     make preview-env-down {again}"
    )


def preview_envs(stack: PreviewBase = STACK) -> None:
    """List the preview environments of a stack."""
    list_environments(resolve_base(stack, echo), datetime.now(UTC), echo)


def preview_env_down(branch: Branch, stack: PreviewBase = STACK) -> None:
    """Remove the preview environment of a branch, if there is one."""
    base = resolve_base(stack, echo)
    record = records_of(base).find(stack_name(base.name, branch))
    if record is None:
        echo(f"{base.name} has no preview environment for {branch}")
    else:
        remove(base, record, echo)


def preview_env_gc(stack: PreviewBase = STACK) -> None:
    """Remove the expired preview environments."""
    collect(resolve_base(stack, echo), datetime.now(UTC), echo)
