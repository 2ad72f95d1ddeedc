"""The effect of a change on each stack, as a comment on a pull request."""

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

# GitHub rejects comments of more than 65,536 characters.
MAX_CHARACTERS = 60_000
MAX_VALUE_CHARACTERS = 200


@dataclass(frozen=True)
class Row:
    """The effect of a change on a stack.

    Attributes:
        stack: The name of the stack.
        plan: The plan of the stack with the change.
        compared: The differences, or None if the comparison failed.
        reason: Why the comparison failed.
    """

    stack: str
    plan: Plan
    compared: Comparison | None
    reason: str = ""


def row(stack: str, ref: str) -> Row:
    """Compare a stack with its version at a git ref."""
    plan = plan_of(record(stack))
    try:
        return Row(stack, plan, comparison(plan, ref, recording_of(ref, stack)))
    except OperationError as error:
        return Row(stack, plan, None, str(error))


def comment(against: str, rows: Sequence[Row]) -> str:
    """Return the comment: a table, followed by each stack's resources up to the maximum length."""
    text = f"### Effect of this change on each stack, compared with `{against}`\n\n"
    text += "| stack | added | changed | removed | $ per month, idle | $ per month, at the stated load |\n"
    text += "|---|---:|---:|---:|---:|---:|\n"
    text += "".join(_line(row) for row in rows)
    for entry in rows:
        if not entry.compared or not entry.compared.difference:
            continue
        details = "\n".join(_details(entry.stack, entry.compared))
        if len(text) + len(details) > MAX_CHARACTERS:
            details = (
                f"\n{entry.stack}: too long for a comment; see `make plan STACK={entry.stack} AGAINST={against}`\n"
            )
        text += details
    return text


def check_ref(ref: str) -> None:
    """Check that a git ref exists.

    Raises:
        OperationError: It does not exist.
    """
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        raise OperationError(f"AGAINST={ref} is not a git ref in this repository: fetch it, or use another one")


def post(number: str, text: str) -> None:
    """Post the comment to a pull request, replacing the previous one.

    Raises:
        OperationError: The GitHub CLI, `gh`, is missing or fails.
    """
    command = ["gh", "pr", "comment", number, "--edit-last", "--create-if-none", "--body-file", "-"]
    try:
        done = subprocess.run(command, input=text, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise OperationError("the GitHub CLI, gh, is not on PATH: install it, or do not set PULL_REQUEST") from error
    if done.returncode != 0:
        raise OperationError(f"`gh pr comment {number}` failed: {done.stderr.strip()}")


def _line(row: Row) -> str:
    if row.compared is None:
        return f"| {row.stack} | | | | | {row.reason} |\n"
    found = row.compared.difference
    counts = " | ".join(str(len(items)) for items in (found.added, found.changed, found.removed))
    before, after = row.compared.bill, row.plan.bill
    if before.missing or after.missing:
        return f"| {row.stack} | {counts} | | |\n"
    costs = (
        f"{usd(new)} ({new - old:+,.2f})"
        for new, old in ((after.total.idle, before.total.idle), (after.total.load, before.total.load))
    )
    return f"| {row.stack} | {counts} | {' | '.join(costs)} |\n"


def _details(stack: str, compared: Comparison) -> Iterator[str]:
    found = compared.difference
    yield f"\n<details><summary>{stack}</summary>\n\n```diff"
    yield from (f"+ {kind(resource)} {resource.name}" for resource in found.added)
    yield from (f"- {kind(resource)} {resource.name}" for resource in found.removed)
    for entry in found.changed:
        yield f"! {kind(entry.resource)} {entry.resource.name}"
        yield from (f"!   {each.path}: {_short(each.before)} -> {_short(each.after)}" for each in entry.changes)
    yield "```\n\n</details>\n"


def _short(value: str) -> str:
    line = value.replace("\n", "\\n")
    return line if len(line) <= MAX_VALUE_CHARACTERS else f"{line[:MAX_VALUE_CHARACTERS]}…"
