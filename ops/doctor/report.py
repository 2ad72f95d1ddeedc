"""Run checks and show their outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from ops.doctor.outcome import Check, Outcome

COLORS = {"passed": "green", "warning": "yellow", "failed": "red", "unknown": "yellow"}


def run(checks: Iterable[Check], console: Console) -> bool:
    """Run checks, show the outcome of each when it is known, and return whether none failed."""
    statuses = []
    for check in checks:
        outcome = check.outcome()
        show(console, [(check.name, outcome)])
        statuses.append(outcome.status)
    return "failed" not in statuses


def show(console: Console, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    """Print a line for each outcome."""
    for name, outcome in outcomes:
        console.print(Text.assemble((f"{outcome.status:<8}", COLORS[outcome.status]), f" {name:<16} {outcome.text}"))
