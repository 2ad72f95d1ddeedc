"""Arguments and options that several commands share.

Each can also be set with the variable that the Makefile passes through, such as STACK in `make deploy STACK=dev`.
"""

from pathlib import Path
from typing import Annotated

import typer

from infra.documents import REPOSITORY


def completed_stacks(incomplete: str) -> list[str]:
    """Complete the name of a stack from the settings files."""
    names = (file.name.split(".")[1] for file in REPOSITORY.glob("Pulumi.*.yaml"))
    return sorted(name for name in names if name.startswith(incomplete))


Stack = Annotated[str, typer.Argument(envvar="STACK", autocompletion=completed_stacks, help="The stack, such as dev.")]
StackOrThisMachine = Annotated[
    str | None,
    typer.Option(
        "--stack", envvar="STACK", autocompletion=completed_stacks, help="The stack; if omitted, this machine."
    ),
]
PreviewBase = Annotated[
    str, typer.Argument(envvar="STACK", autocompletion=completed_stacks, help="The stack whose cluster runs it.")
]
Branch = Annotated[str, typer.Argument(envvar="BRANCH", help="The branch, such as feature/new-model.")]
Yes = Annotated[bool, typer.Option("--yes", envvar="YES", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", envvar="DRY_RUN", help="Show what would change; change nothing.")]
Change = Annotated[
    Path | None,
    typer.Option(envvar="CHANGE", metavar="FILE", help="Write the change to a file for `make publish`."),
]
Built = Annotated[
    Path | None,
    typer.Option(envvar="BUILT", metavar="FILE", help="The file that lists the images built in this run."),
]
