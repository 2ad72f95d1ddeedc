"""The commands that create, list and remove preview environments."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from infra.preview_names import stack_name
from ops.cli.options import Branch, PreviewBase
from ops.console import echo
from ops.previews.base import Base
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
    base = Base.of(stack, echo)
    settings = bring_up(base, branch, hours, echo)
    again = f"BRANCH={branch} STACK={base.stack}"
    echo(
        f"open       make ui STACK={settings.stack}\n"
        f"objects    {settings.prefix} in the buckets of {base.stack}\n"
        f"expires    {moment(settings.expires_at)}; extend with `make preview-env {again}`\n"
        f"remove     make preview-env-down {again}"
    )


def preview_envs(stack: PreviewBase = STACK) -> None:
    """List the preview environments of a stack."""
    list_environments(Base.of(stack, echo), datetime.now(UTC), echo)


def preview_env_down(branch: Branch, stack: PreviewBase = STACK) -> None:
    """Remove the preview environment of a branch, if there is one."""
    base = Base.of(stack, echo)
    record = base.records.find(stack_name(base.stack, branch))
    if record is None:
        echo(f"{base.stack} has no preview environment for {branch}")
    else:
        remove(base, record, echo)


def preview_env_gc(stack: PreviewBase = STACK) -> None:
    """Remove the expired preview environments."""
    collect(Base.of(stack, echo), datetime.now(UTC), echo)
