"""The command that shows what to upgrade."""

import typer

from ops.cli.options import Stack
from ops.console import echo, new_console
from ops.doctor import report, upgrades
from ops.stacks.resolve import resolve


def upgrade_check(stack: Stack) -> None:
    """Show what to upgrade and by when.

    It looks at support dates, the APIs of the stack's objects, and the age of images and packages. Exit codes: 0 if
    nothing has failed, else 1.
    """
    if not report.run(upgrades.checks(resolve(stack, echo)), new_console(soft_wrap=True)):
        raise typer.Exit(1)
