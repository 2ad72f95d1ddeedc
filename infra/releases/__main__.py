"""The commands behind `make promote`, `rollback`, `release`, `releases`, `gates` and `gate`."""

import argparse
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import get_args

from infra.command_line import ending_in_a_sentence, subcommands
from infra.console import new_console
from infra.errors import OperationError
from infra.releases import passing, promotion, recording, rollback, terminal
from infra.releases.chain import previous
from infra.releases.clone import Clone
from infra.releases.evidence import Subject
from infra.releases.images import REGISTRIES
from infra.releases.ledger import Ledger
from infra.releases.transition import Transition
from infra.settings import load

console = new_console()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.releases", description=__doc__)
    helps = {
        "promote": "bring the release of a stack into the next stack",
        "rollback": "bring a stack back to an earlier release",
        "release": "record what a stack runs, after it was deployed and passed the smoke test",
        "history": "list the releases that a stack had, the newest first",
        "gates": "show what the release of the stack before must pass before it comes into this one",
        "gate": "run the tests, approve the plan or rehearse the migrations, and record the result",
    }
    parsers = subcommands(parser, helps)
    parsers["promote"].add_argument("source", help="the stack that has the release, such as dev")
    parsers["promote"].add_argument("stack", help="the stack that gets it, such as staging")
    for name in ("rollback", "release", "history", "gates"):
        parsers[name].add_argument("stack", help="the stack, such as staging")
    for name, confirmed in (("promote", promotion.CONFIRMED), ("rollback", rollback.CONFIRMED)):
        parsers[name].add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
        parsers[name].add_argument("--confirm", choices=[confirmed], help="what does not go back by itself")
    text = "write what would be pushed into a file, for `make publish`"
    for name in ("promote", "rollback", "release", "gate"):
        parsers[name].add_argument("--change", type=Path, metavar="FILE", help=text)
    text = "the beginning of the release's commit"
    parsers["rollback"].add_argument("--to", metavar="COMMIT", help=text)
    parsers["gate"].add_argument("gate", choices=get_args(Subject), help="which gate")
    parsers["gate"].add_argument("--stack", help="the stack that the release is to come into; the tests need none")
    parsers["gate"].add_argument("--yes", action="store_true", help="approve without being asked")
    with ending_in_a_sentence():
        run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Run one command.

    Raises:
        OperationError: It failed, or something is in its way.
        ContextError: The cluster at hand is none that the stack's settings name.
        RunError: Settings or images are wrong.
    """
    clone, stack = Clone(), arguments.stack
    if change := getattr(arguments, "change", None):
        change.unlink(missing_ok=True)  # an earlier one
        clone = replace(clone, change_file=change)
    match arguments.command:
        case "promote":
            with promotion.promotion(clone, arguments.source, stack) as way:
                if arguments.dry_run:
                    show(way, promotion.refusals(way, REGISTRIES, arguments.confirm))
                else:
                    promotion.promote(way, REGISTRIES, say, arguments.confirm)
        case "rollback":
            with rollback.way_back(clone, stack, arguments.to) as way:
                if arguments.dry_run:
                    show(way, rollback.refusals(way, REGISTRIES, arguments.confirm))
                else:
                    rollback.roll_back(way, REGISTRIES, say, arguments.confirm)
        case "release":
            recording.record(clone, stack, REGISTRIES, say)
        case "history":
            load(stack)
            terminal.show_history(console, stack, Ledger(clone).history(stack))
        case "gates":
            with into(clone, stack) as way:
                terminal.show_gates(console, promotion.states(way, REGISTRIES))
        case "gate":
            pass_gate(clone, arguments)
    if change and change.exists():
        say(f"nothing is pushed yet: `make publish` pushes what is in {change}")


def show(way: Transition, refusals: Iterable[str]) -> None:
    """Show what would change.

    Raises:
        OperationError: Something is in the way.
    """
    show_difference(way)
    if found := list(refusals):
        raise OperationError("\n       ".join(found))
    say("nothing is in the way")


def pass_gate(clone: Clone, arguments: argparse.Namespace) -> None:
    """Pass one gate and record it.

    Raises:
        OperationError: It is not passed.
    """
    if arguments.gate == "tests":
        passing.run_tests(clone, say)
        return
    if not arguments.stack:
        raise OperationError(f"name the stack: `make gate GATE={arguments.gate} STACK=staging`")
    with into(clone, arguments.stack) as way:
        if arguments.gate == "plan":
            show_difference(way)
            passing.approve(way, approved=arguments.yes or asked(), say=say)
        else:
            from infra.operations.rehearsal import rehearse

            passing.rehearse(way, rehearse, say)


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


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line, soft_wrap=True)


if __name__ == "__main__":
    main()
