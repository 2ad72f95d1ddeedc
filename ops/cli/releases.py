"""The commands for releases."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from infra.errors import OperationError
from infra.settings import load
from ops.cli.options import Change, DryRun, Stack, Yes
from ops.console import echo, new_console
from ops.releases import gate_runs, promotion, recording, terminal
from ops.releases import rollback as rollbacks
from ops.releases.chain import previous
from ops.releases.clone import Clone
from ops.releases.evidence import Subject
from ops.releases.images import REGISTRIES
from ops.releases.ledger import Ledger
from ops.releases.transition import Transition

console = new_console()


def promote(
    source: Annotated[str, typer.Argument(envvar="FROM", help="The stack that has the release, such as dev.")],
    stack: Annotated[str, typer.Argument(envvar="TO", help="The stack that gets it, such as staging.")],
    dry_run: DryRun = False,
    confirm: Annotated[
        Literal["migration"] | None, typer.Option(envvar="CONFIRM", help="Accept what cannot be undone.")
    ] = None,
    change: Change = None,
) -> None:
    """Promote the release of a stack to the next stack."""
    with clone_with(change) as clone, promotion.promotion(clone, source, stack) as transition:
        if dry_run:
            show(transition, promotion.refusals(transition, REGISTRIES, confirm))
        else:
            promotion.promote(transition, REGISTRIES, echo, confirm)


def rollback(
    stack: Stack,
    to: Annotated[
        str | None, typer.Option(envvar="TO", metavar="COMMIT", help="The beginning of the release's commit.")
    ] = None,
    dry_run: DryRun = False,
    confirm: Annotated[
        Literal["database"] | None, typer.Option(envvar="CONFIRM", help="Accept what cannot be undone.")
    ] = None,
    change: Change = None,
) -> None:
    """Roll a stack back to an earlier release."""
    with clone_with(change) as clone, rollbacks.way_back(clone, stack, to) as transition:
        if dry_run:
            show(transition, rollbacks.refusals(transition, REGISTRIES, confirm))
        else:
            rollbacks.roll_back(transition, REGISTRIES, echo, confirm)


def release(stack: Stack, change: Change = None) -> None:
    """Record what a stack runs."""
    with clone_with(change) as clone:
        recording.record(clone, stack, REGISTRIES, echo)


def releases(stack: Stack) -> None:
    """List the releases of a stack, newest first."""
    load(stack)
    terminal.show_history(console, stack, Ledger(Clone()).history(stack))


def gates(stack: Stack) -> None:
    """Show which gates the release of the stack before must pass before it is promoted to this one."""
    with into(Clone(), stack) as transition:
        terminal.show_gates(console, promotion.states(transition, REGISTRIES))


def gate(
    gate: Annotated[Subject, typer.Argument(envvar="GATE", help="The gate.")],
    stack: Annotated[
        str | None, typer.Option(envvar="STACK", help="The stack to promote the release to; the tests need none.")
    ] = None,
    yes: Yes = False,
    change: Change = None,
) -> None:
    """Run the tests, approve the plan or rehearse the migrations, and record the result."""
    with clone_with(change) as clone:
        if gate == "tests":
            gate_runs.run_tests(clone, echo)
            return
        if not stack:
            raise OperationError(f"name the stack: `make gate GATE={gate} STACK=staging`")
        with into(clone, stack) as transition:
            if gate == "plan":
                show_difference(transition)
                gate_runs.approve(transition, approved=yes or asked(), echo=echo)
            else:
                from ops.releases.rehearsal import rehearse

                gate_runs.rehearse(transition, rehearse, echo)


@contextmanager
def clone_with(change: Path | None) -> Iterator[Clone]:
    """Return the clone, which writes what it would push into a file if one is named."""
    if change is None:
        yield Clone()
        return
    change.unlink(missing_ok=True)  # an earlier one
    yield replace(Clone(), change_file=change)
    if change.exists():
        echo(f"nothing is pushed yet: `make publish` pushes what is in {change}")


def show(way: Transition, refusals: Iterable[str]) -> None:
    """Show what would change.

    Raises:
        OperationError: Something is in the way.
    """
    show_difference(way)
    if found := list(refusals):
        raise OperationError("\n       ".join(found))
    echo("nothing is in the way")


def into(clone: Clone, stack: str) -> AbstractContextManager[Transition]:
    """Return the way of the release that comes next into a stack.

    Raises:
        OperationError: None does.
    """
    source = previous(stack, clone.folder)
    if source is None:
        raise OperationError(f"releases of {stack} are built for it, so there are no gates before it")
    return promotion.promotion(clone, source, stack)


def show_difference(way: Transition) -> None:
    """Print what a stack gets."""
    terminal.show_difference(console, way.stack, way.before, way.release.commit, way.difference)


def asked() -> bool:
    """Ask whether somebody approves.

    Raises:
        OperationError: There is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise OperationError("nobody approved it: answer y when asked, or give YES=1")
    return console.input("Approve? [y/N] ").strip().lower() in ("y", "yes")
