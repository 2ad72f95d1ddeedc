"""Releases in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.plan.difference import Change
from infra.plan.terminal import show_comparison
from infra.releases.dags import DagDifference
from infra.releases.difference import Difference
from infra.releases.gates import Gate
from infra.releases.ledger import Entry


def show_difference(console: Console, stack: str, before: str | None, after: str, found: Difference) -> None:
    """Print what a stack gets."""
    console.print(f"[bold]{escape(stack)}: {before[:12] if before else 'no release yet'} -> {after[:12]}[/]\n")
    if found.infrastructure:
        show_comparison(console, found.infrastructure.plan, found.infrastructure.comparison)
        _show_changes(console, "settings", found.settings)
        _show_changes(console, "values", found.values)
    else:
        console.print(f"[bold]resources, settings, values[/]\nall are new: see `make plan STACK={stack}`\n")
    _show_changes(console, "images", found.images)
    _show_dags(console, found.dags)


def show_gates(console: Console, gates: Iterable[Gate]) -> None:
    """Print how a release stands before the gates."""
    table = Table(box=None, pad_edge=False)
    for column in ("gate", "", "why", "what to do"):
        table.add_column(column, overflow="fold")
    for gate in gates:
        state = "[green]passed[/]" if gate.passed else "[red]open[/]"
        table.add_row(gate.name, state, escape(gate.reason), "" if gate.passed else escape(gate.fix))
    console.print(table)


def show_history(console: Console, stack: str, history: Sequence[Entry]) -> None:
    """Print the releases that a stack had, the newest first."""
    if not history:
        console.print(f"{escape(stack)} has no release yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("release", "recorded", "deployed", "Airflow", "what", "by"):
        table.add_column(column, overflow="fold")
    for entry in history:
        release = entry.release
        deployed = _time(release.deployed_at) if release.deployed_at else ""
        what = f"{entry.message} ({release.forced_by})" if release.forced_by else entry.message
        row = (release.short, _time(release.recorded_at), deployed, release.airflow_version, what, entry.by)
        table.add_row(*map(escape, row))
    console.print(table)


def _show_changes(console: Console, title: str, changes: Sequence[Change]) -> None:
    console.print(f"[bold]{title}[/]")
    for change in changes:
        console.print(f"[yellow]~[/] {escape(change.path)}: {escape(change.before)} -> {escape(change.after)}")
    console.print("nothing differs\n" if not changes else "")


def _show_dags(console: Console, found: DagDifference) -> None:
    console.print("[bold]DAGs[/]")
    for sign, colour, names in (
        ("+", "green", found.added),
        ("-", "red", found.removed),
        ("~", "yellow", found.changed),
    ):
        for name in names:
            console.print(f"[{colour}]{sign}[/] {escape(name)}")
    for name, (before, after) in found.schedules.items():
        console.print(f"[yellow]~[/] {escape(name)} runs on another schedule: {escape(before)} -> {escape(after)}")
    for name in found.shared:
        console.print(f"[yellow]~[/] {escape(name)}, which all DAGs may use")
    console.print("" if found else "nothing differs\n")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
