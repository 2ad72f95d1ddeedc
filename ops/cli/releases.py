"""The commands that record, promote and roll back releases."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
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
from ops.releases.rehearsal import rehearse
from ops.releases.transition import Transition
from ops.stacks.resolve import stack_with

console = new_console()


def promote(
    source: Annotated[str, typer.Argument(envvar="FROM", help="The stack whose release is promoted, such as dev.")],
    stack: Annotated[str, typer.Argument(envvar="TO", help="The stack to promote it to, such as staging.")],
    dry_run: DryRun = False,
    confirm: Annotated[
        Literal["migration"] | None, typer.Option(envvar="CONFIRM", help="Confirm a step that cannot be undone.")
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
        Literal["database"] | None, typer.Option(envvar="CONFIRM", help="Confirm a step that cannot be undone.")
    ] = None,
    change: Change = None,
) -> None:
    """Roll a stack back to an earlier release."""
    with clone_with(change) as clone, rollbacks.rollback_transition(clone, stack, to) as transition:
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
    """Show which gates the next release must pass before it is promoted to this stack."""
    with into(Clone(), stack) as transition:
        terminal.show_gates(console, promotion.states(transition, REGISTRIES))


def gate(
    gate: Annotated[Subject, typer.Argument(envvar="GATE", help="The gate.")],
    stack: Annotated[
        str | None, typer.Option(envvar="STACK", help="The stack to promote to; not needed for tests.")
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
            raise OperationError(f"STACK is missing: run `make gate GATE={gate} STACK=staging`")
        with into(clone, stack) as transition:
            if gate == "plan":
                show_difference(transition)
                gate_runs.approve(transition, approved=yes or prompt_approval(), echo=echo)
            else:
                resolved = stack_with(stack, transition.settings, echo)
                gate_runs.rehearse(transition, partial(rehearse, resolved), echo)


@contextmanager
def clone_with(change: Path | None) -> Iterator[Clone]:
    """Yield the clone; if a file is given, the clone writes its push to that file instead."""
    if change is None:
        yield Clone()
        return
    change.unlink(missing_ok=True)  # left by an earlier command
    yield replace(Clone(), change_file=change)
    if change.exists():
        echo(f"nothing is pushed yet: `make publish` pushes the change in {change}")


def show(transition: Transition, refusals: Iterable[str]) -> None:
    """Print what a transition would change.

    Raises:
        OperationError: A check refuses the transition.
    """
    show_difference(transition)
    if found := list(refusals):
        raise OperationError("\n       ".join(found))
    echo("all checks passed")


def into(clone: Clone, stack: str) -> AbstractContextManager[Transition]:
    """Return the promotion of the next release to a stack.

    Raises:
        OperationError: Releases are not promoted to this stack.
    """
    source = previous(stack, clone.folder)
    if source is None:
        raise OperationError(f"{stack} is the first stack of the chain and has no gates: choose a later stack")
    return promotion.promotion(clone, source, stack)


def show_difference(transition: Transition) -> None:
    """Print what changes in a stack."""
    terminal.show_difference(
        console, transition.stack, transition.before, transition.release.commit, transition.difference
    )


def prompt_approval() -> bool:
    """Prompt for approval.

    Raises:
        OperationError: There is no terminal.
    """
    if not sys.stdin.isatty():
        raise OperationError("the plan is not approved: answer y at the prompt, or set YES=1")
    return console.input("Approve? [y/N] ").strip().lower() in ("y", "yes")
