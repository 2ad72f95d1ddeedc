"""What a change does to each stack, as a comment on a pull request."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.plan.against import recording_of
from ops.plan.page import kind, usd
from ops.plan.plan import Comparison, Plan, comparison, plan_of
from ops.plan.recording import record

# GitHub takes 65,536 characters, and refuses the comment as a whole otherwise.
LONGEST = 60_000
LONGEST_VALUE = 200


@dataclass(frozen=True)
class Row:
    """A stack and what a change does to it.

    Attributes:
        stack: Its name.
        plan: The stack with the change.
        beside: What differs; None where that cannot be told.
        reason: Why it cannot be told.
    """

    stack: str
    plan: Plan
    beside: Comparison | None
    reason: str = ""


def row(stack: str, ref: str) -> Row:
    """Compare a stack with what a git ref makes of it."""
    plan = plan_of(record(stack))
    try:
        return Row(stack, plan, comparison(plan, ref, recording_of(ref, stack)))
    except OperationError as error:
        return Row(stack, plan, None, str(error))


def comment(against: str, rows: Sequence[Row]) -> str:
    """Return the comment: a table, and beneath it each stack's resources as long as there is room."""
    text = f"### What this change does to each stack, against `{against}`\n\n"
    text += "| stack | added | changed | removed | $ a month, idle | $ a month, at the stated load |\n"
    text += "|---|---:|---:|---:|---:|---:|\n"
    text += "".join(_line(row) for row in rows)
    for entry in rows:
        if not entry.beside or not entry.beside.difference:
            continue
        details = "\n".join(_details(entry.stack, entry.beside))
        if len(text) + len(details) > LONGEST:
            details = f"\n{entry.stack}: too much to show here; see `make plan STACK={entry.stack} AGAINST={against}`\n"
        text += details
    return text


def check_ref(ref: str) -> None:
    """Say whether there is such a ref.

    Raises:
        OperationError: There is none.
    """
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        raise OperationError(f"AGAINST={ref} is no git ref here: fetch it, or name another")


def post(number: str, text: str) -> None:
    """Write the comment to a pull request, over the one that was written there before.

    Raises:
        OperationError: GitHub's command line is missing, or fails.
    """
    command = ["gh", "pr", "comment", number, "--edit-last", "--create-if-none", "--body-file", "-"]
    try:
        done = subprocess.run(command, input=text, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise OperationError(
            "gh, GitHub's command line, is not on PATH: install it, or leave PULL_REQUEST out"
        ) from error
    if done.returncode != 0:
        raise OperationError(f"`gh pr comment {number}` failed: {done.stderr.strip()}")


def _line(row: Row) -> str:
    if row.beside is None:
        return f"| {row.stack} | | | | | {row.reason} |\n"
    found = row.beside.difference
    counts = " | ".join(str(len(items)) for items in (found.added, found.changed, found.removed))
    before, after = row.beside.bill, row.plan.bill
    if before.missing or after.missing:
        return f"| {row.stack} | {counts} | | |\n"
    costs = (
        f"{usd(new)} ({new - old:+,.2f})"
        for new, old in ((after.total.idle, before.total.idle), (after.total.load, before.total.load))
    )
    return f"| {row.stack} | {counts} | {' | '.join(costs)} |\n"


def _details(stack: str, beside: Comparison) -> Iterator[str]:
    found = beside.difference
    yield f"\n<details><summary>{stack}</summary>\n\n```diff"
    yield from (f"+ {kind(resource)} {resource.name}" for resource in found.added)
    yield from (f"- {kind(resource)} {resource.name}" for resource in found.removed)
    for entry in found.changed:
        yield f"! {kind(entry.resource)} {entry.resource.name}"
        yield from (f"!   {each.path}: {_short(each.before)} -> {_short(each.after)}" for each in entry.changes)
    yield "```\n\n</details>\n"


def _short(value: str) -> str:
    line = value.replace("\n", "\\n")
    return line if len(line) <= LONGEST_VALUE else f"{line[:LONGEST_VALUE]}…"
