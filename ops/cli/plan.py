"""The commands that compute a stack's resources, cost and permissions offline."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import load
from infra.settings.placeholders import placeholders
from ops.cli.options import Stack
from ops.console import new_console
from ops.paths import user_path
from ops.plan.against import recording_of
from ops.plan.comment import check_ref, comment, post, row
from ops.plan.page import page
from ops.plan.plan import comparison, plan_of
from ops.plan.recording import record, stacks
from ops.plan.summary import summary
from ops.plan.task_nodes import task_nodes
from ops.plan.terminal import show

FOLDER = REPOSITORY / ".plan"


def plan(
    stack: Stack,
    against: Annotated[
        str | None,
        typer.Option(envvar="AGAINST", metavar="STACK|REF", help="Compare with another stack or a git ref."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            parser=user_path, metavar="FILE", help="The file for the page.", show_default=".plan/<stack>.html"
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead.")] = False,
    recording: Annotated[bool, typer.Option("--recording", help="Print every resource as JSON instead.")] = False,
) -> None:
    """Show what a stack creates, costs and allows; write a page with the details."""
    if json_ and recording:
        raise OperationError("--json and --recording cannot be combined: use one of them")
    recorded = record(stack)
    if recording:
        sys.stdout.write(recorded.to_json())
        return
    found = plan_of(recorded)
    compared = comparison(found, against, recording_of(against, stack)) if against else None
    if json_:
        sys.stdout.write(json.dumps(summary(found, compared), indent=2) + "\n")
        return
    nodes = task_nodes(recorded, found.usage)
    file = html or FOLDER / f"{stack}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(found, compared, nodes))
    console = new_console()
    show(console, found, compared, nodes)
    for placeholder in placeholders(load(stack)):
        console.print(f"replace    {placeholder}", style="yellow", soft_wrap=True)
    console.print(f"page       {file}", soft_wrap=True)


def plan_comment(
    against: Annotated[str, typer.Argument(envvar="AGAINST", help="The git ref to merge the change into.")],
    pull_request: Annotated[
        str | None,
        typer.Option(
            envvar="PULL_REQUEST", metavar="NUMBER", help="The pull request to comment on; if omitted, print."
        ),
    ] = None,
) -> None:
    """Write a comment about a change's effect on each stack and its cost."""
    check_ref(against)
    text = comment(against, [row(stack, against) for stack in stacks()])
    if pull_request:
        post(pull_request, text)
    else:
        sys.stdout.write(text)
