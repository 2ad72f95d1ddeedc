"""Print releases on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.plan.difference import Change
from ops.plan.terminal import show_comparison
from ops.releases.dags import DagDifference
from ops.releases.difference import Difference
from ops.releases.gates import Gate
from ops.releases.ledger import Entry

SIGN_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def show_difference(console: Console, stack: str, before: str | None, after: str, found: Difference) -> None:
    """Print what changes in a stack."""
    console.print(Text(f"{stack}: {before[:12] if before else 'no release yet'} -> {after[:12]}\n", "bold"))
    if found.infrastructure:
        show_comparison(console, found.infrastructure.plan, found.infrastructure.comparison)
        _show_changes(console, "settings", found.settings)
        _show_changes(console, "values", found.values)
    else:
        console.print(Text("resources, settings, values", "bold"))
        console.print(Text(f"all new: see `make plan STACK={stack}`\n"))
    _show_changes(console, "images", found.images)
    _show_dags(console, found.dags)


def show_gates(console: Console, gates: Iterable[Gate]) -> None:
    """Print the gates and their state."""
    table = Table(box=None, pad_edge=False)
    for column in ("gate", "", "why", "what to do"):
        table.add_column(column, overflow="fold")
    for gate in gates:
        state = Text("passed", "green") if gate.passed else Text("open", "red")
        table.add_row(Text(gate.name), state, Text(gate.reason), Text("" if gate.passed else gate.fix))
    console.print(table)


def show_history(console: Console, stack: str, history: Sequence[Entry]) -> None:
    """Print the releases of a stack, newest first."""
    if not history:
        console.print(Text(f"{stack} has no release yet"))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("release", "recorded", "deployed", "Airflow", "what", "by"):
        table.add_column(column, overflow="fold")
    for entry in history:
        release = entry.release
        deployed = _time(release.deployed_at) if release.deployed_at else ""
        what = f"{entry.message} ({release.forced_by})" if release.forced_by else entry.message
        row = (release.short, _time(release.recorded_at), deployed, release.airflow_version, what, entry.by)
        table.add_row(*map(Text, row))
    console.print(table)


def _show_changes(console: Console, title: str, changes: Sequence[Change]) -> None:
    console.print(Text(title, "bold"))
    for change in changes:
        _print_line(console, "~", f"{change.path}: {change.before} -> {change.after}")
    console.print("no changes\n" if not changes else "")


def _show_dags(console: Console, found: DagDifference) -> None:
    console.print(Text("DAGs", "bold"))
    for sign, names in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for name in names:
            _print_line(console, sign, name)
    for name, (before, after) in found.schedules.items():
        _print_line(console, "~", f"{name}, schedule: {before} -> {after}")
    for name in found.shared:
        _print_line(console, "~", f"{name}, shared by DAGs")
    console.print("" if found else "no changes\n")


def _print_line(console: Console, sign: str, text: str) -> None:
    console.print(Text.assemble((sign, SIGN_STYLES[sign]), f" {text}"))


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
