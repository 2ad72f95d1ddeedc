"""The plan in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from infra.plan.page import kind, usd
from infra.plan.plan import Comparison, Plan

CHEAP = 0.005  # below, a line of the bill rounds to nothing


def show(console: Console, plan: Plan, comparison: Comparison | None = None) -> None:
    """Print what the plan says, the most important last."""
    console.print(_tree(plan))
    console.print()
    if plan.grants:
        console.print(_grants(plan))
        console.print()
    console.print(_bill(plan))
    console.print()
    if comparison:
        show_comparison(console, plan, comparison)
    _show_summary(console, plan)


def _tree(plan: Plan) -> Tree:
    root = Tree("", hide_root=True)
    branches = {-1: root}
    for depth, resource in plan.tree():
        protect = " [green]protected[/]" if resource.protect else ""
        style = "bold" if not resource.custom else ""
        label = f"[dim]{escape(kind(resource))}[/] [{style or 'default'}]{escape(resource.name)}[/]{protect}"
        branches[depth] = branches[depth - 1].add(label)
    return root


def _grants(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("who", "", "actions", "on", "only if"):
        table.add_column(column, overflow="fold")
    before = ""
    for grant in sorted(plan.grants, key=lambda grant: grant.who):
        effect = "allow" if grant.effect == "Allow" else "[red]deny[/]"
        cells = ["\n".join(map(escape, texts)) for texts in (grant.actions, grant.resources, grant.conditions)]
        table.add_row(escape(grant.who) if grant.who != before else "", effect, *cells)
        before = grant.who
    return table


def _bill(plan: Plan) -> Table | str:
    if plan.bill.missing:
        return f"[yellow]{escape(plan.bill.missing)}[/]"
    table = Table(box=None, pad_edge=False)
    table.add_column("idle $", justify="right")
    table.add_column("load $", justify="right")
    for column in ("resource", "paid for", "counted as"):
        table.add_column(column)
    for line in plan.bill.lines:
        if max(line.idle, line.load) >= CHEAP:
            table.add_row(usd(line.idle), usd(line.load), escape(line.resource), escape(line.what), escape(line.basis))
    table.add_row(f"[bold]{usd(plan.bill.total.idle)}", f"[bold]{usd(plan.bill.total.load)}", "[bold]a month")
    return table


def show_comparison(console: Console, plan: Plan, comparison: Comparison) -> None:
    """Print what differs, and what that costs."""
    found = comparison.difference
    console.print(f"[bold]{plan.recording.stack} against {escape(comparison.other)}[/]")
    for resource in found.added:
        console.print(f"[green]+ {escape(kind(resource))} {escape(resource.name)}[/]")
    for resource in found.removed:
        console.print(f"[red]- {escape(kind(resource))} {escape(resource.name)}[/]")
    for entry in found.changed:
        console.print(f"[yellow]~ {escape(kind(entry.resource))} {escape(entry.resource.name)}[/]")
        for change in entry.changes:
            console.print(f"    {escape(change.path)}: {escape(change.before)} -> {escape(change.after)}")
    if not found:
        console.print("nothing differs")
    if not plan.bill.missing and not comparison.bill.missing:
        idle = plan.bill.total.idle - comparison.bill.total.idle
        load = plan.bill.total.load - comparison.bill.total.load
        console.print(f"[bold]{idle:+.2f} $ a month idle, {load:+.2f} $ at the stated load[/]")
    console.print()


def _show_summary(console: Console, plan: Plan) -> None:
    seen = plan.architecture
    counts = ", ".join(f"{count} {name}" for name, count in plan.counts.items())
    place = seen.region or "an existing cluster"
    console.print(f"[bold]{plan.recording.project} {plan.recording.stack}[/] in {place}: {counts}")
    if seen.zones:
        gateways = sum(zone.nat for zone in seen.zones)
        console.print(
            f"network    {seen.vpc} {seen.cidr}, {len(seen.zones)} zones, {gateways} NAT gateway{'s' * (gateways != 1)}"
        )
    if seen.cluster:
        pools = "; ".join(f"{pool.name} of {', '.join(pool.families)} from 0" for pool in seen.cluster.pools)
        console.print(f"cluster    {seen.cluster.name} {seen.cluster.version}; {pools}; {seen.cluster.endpoint}")
    if seen.database:
        console.print(f"database   {seen.database.name} on {seen.database.instance_class}, {seen.database.storage}")
    if seen.buckets:
        console.print(f"buckets    {', '.join(bucket.name for bucket in seen.buckets)}")
    if not plan.bill.missing:
        bill, load = plan.bill.total, ", ".join(f"{each.load:g} {each.text}" for each in plan.usage.amounts.values())
        console.print(f"load       {load}")
        console.print(f"[bold]cost       {usd(bill.idle)} $ a month idle, {usd(bill.load)} $ at this load[/]")
