"""The plan's output on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ops.plan.connections import connections
from ops.plan.page import kind, usd
from ops.plan.plan import Comparison, Plan
from ops.plan.short_tasks import MWAA_CLASS, ShortTasks, short_tasks
from ops.plan.task_nodes import TaskNode

MIN_SHOWN_USD = 0.005  # charges below this round to 0.00 and are not shown


def show(
    console: Console, plan: Plan, comparison: Comparison | None = None, task_nodes: Sequence[TaskNode] = ()
) -> None:
    """Print the plan, with the most important part last."""
    console.print(_tree(plan))
    console.print()
    if plan.grants:
        console.print(_grants(plan))
        console.print()
    if task_nodes:
        console.print(_task_nodes(task_nodes))
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
        label = Text.assemble((kind(resource), "dim"), " ", (resource.name, "" if resource.custom else "bold"))
        if resource.protect:
            label.append(" protected", "green")
        branches[depth] = branches[depth - 1].add(label)
    return root


def _grants(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("who", "", "actions", "on", "only if"):
        table.add_column(column, overflow="fold")
    before = ""
    for grant in sorted(plan.grants, key=lambda grant: grant.who):
        effect = Text("allow") if grant.effect == "Allow" else Text("deny", "red")
        cells = [Text("\n".join(texts)) for texts in (grant.actions, grant.resources, grant.conditions)]
        table.add_row(Text(grant.who if grant.who != before else ""), effect, *cells)
        before = grant.who
    return table


def _task_nodes(nodes: Sequence[TaskNode]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("$ an hour", justify="right")
    for column in ("node", "pool", "DAG", "tasks", "each requests"):
        table.add_column(column, overflow="fold")
    for node in nodes:
        table.add_row(
            f"{node.usd:.3f}",
            *map(Text, (node.instance, node.request.pool, node.dag_id, ", ".join(node.tasks), node.request.text)),
        )
    return table


def _bill(plan: Plan) -> Table | Text:
    if plan.bill.missing:
        return Text(plan.bill.missing, "yellow")
    table = Table(box=None, pad_edge=False)
    table.add_column("idle $", justify="right")
    table.add_column("load $", justify="right")
    for column in ("resource", "item", "basis"):
        table.add_column(column)
    for line in plan.bill.lines:
        if max(line.idle, line.load) >= MIN_SHOWN_USD:
            table.add_row(usd(line.idle), usd(line.load), *map(Text, (line.resource, line.what, line.basis)))
    table.add_row(usd(plan.bill.total.idle), usd(plan.bill.total.load), "per month", style="bold")
    return table


def show_comparison(console: Console, plan: Plan, comparison: Comparison) -> None:
    """Print the differences and their cost."""
    found = comparison.difference
    console.print(Text(f"{plan.recording.stack} against {comparison.other}", "bold"))
    for resource in found.added:
        console.print(Text(f"+ {kind(resource)} {resource.name}", "green"))
    for resource in found.removed:
        console.print(Text(f"- {kind(resource)} {resource.name}", "red"))
    for entry in found.changed:
        console.print(Text(f"~ {kind(entry.resource)} {entry.resource.name}", "yellow"))
        for change in entry.changes:
            console.print(Text(f"    {change.path}: {change.before} -> {change.after}"))
    if not found:
        console.print("no differences")
    if not plan.bill.missing and not comparison.bill.missing:
        idle = plan.bill.total.idle - comparison.bill.total.idle
        load = plan.bill.total.load - comparison.bill.total.load
        console.print(Text(f"${idle:+.2f} per month idle, ${load:+.2f} at the stated load", "bold"))
    console.print()


def _show_summary(console: Console, plan: Plan) -> None:
    seen = plan.architecture
    counts = ", ".join(f"{count} {name}" for name, count in plan.counts.items())
    location = seen.region or "an existing cluster"
    title = f"{plan.recording.project} {plan.recording.stack}"
    console.print(Text.assemble((title, "bold"), f" in {location}: {counts}"))
    if seen.zones:
        gateways = sum(zone.nat for zone in seen.zones)
        plural = "s" * (gateways != 1)
        console.print(
            Text(f"network    {seen.vpc} {seen.cidr}, {len(seen.zones)} zones, {gateways} NAT gateway{plural}")
        )
    if seen.cluster:
        pools = "; ".join(f"{pool.name} with {', '.join(pool.families)}, from 0 nodes" for pool in seen.cluster.pools)
        console.print(Text(f"cluster    {seen.cluster.name} {seen.cluster.version}; {pools}; {seen.cluster.endpoint}"))
    if seen.database:
        database = seen.database
        size = f"{database.instance_class}, {database.storage}"
        console.print(Text(f"database   {database.name} on {size}; a new class or size applies {database.changes}"))
        console.print(Text(f"           {connections(plan.recording.stack, database.instance_class)}"))
    if seen.buckets:
        console.print(Text(f"buckets    {', '.join(bucket.name for bucket in seen.buckets)}"))
    if not plan.bill.missing:
        bill, load = plan.bill.total, ", ".join(f"{each.load:g} {each.text}" for each in plan.load)
        console.print(Text(f"load       {load}"))
        if found := short_tasks(plan):
            _show_short_tasks(console, found)
        console.print(Text(f"cost       ${usd(bill.idle)} per month idle, ${usd(bill.load)} at this load", "bold"))


def _show_short_tasks(console: Console, found: ShortTasks) -> None:
    console.print(Text(f"tasks      up to {found.at_once} at once, {found.a_day:,} of one minute a day"))
    for count, cost in found.costs.items():
        mwaa = f"${usd(cost.mwaa)} in Amazon MWAA ({MWAA_CLASS})"
        console.print(Text(f"           at {count:,} a day, a thousand cost ${usd(cost.usd)}, and {mwaa}"))
