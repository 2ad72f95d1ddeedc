"""The evidence of a commit's gates, as recorded in `gates/<commit>.yaml`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from infra.release import Commit, Record

Subject = Literal["tests", "plan", "rehearsal"]


class Evidence(Record):
    """The result of one gate for a commit."""

    gate: Subject
    """The gate: the test suite, the review of the plan, or the rehearsal of migrations on a copy of the database."""
    stack: str | None = None
    """The stack for which the gate was run; None for all stacks."""
    against: Commit | None = None
    """The commit of the stack at that time; None if it had none. The evidence expires when the stack moves."""
    passed: bool
    """Whether the commit passed."""
    by: str
    """The Git identity of the user who ran it."""
    at: datetime
    """When, in UTC."""


def with_latest(known: Iterable[Evidence], new: Evidence) -> list[Evidence]:
    """Return the evidence with the new entry, which replaces an older one of the same gate and stack."""
    return [*(one for one in known if (one.gate, one.stack) != (new.gate, new.stack)), new]


def found(known: Iterable[Evidence], gate: Subject, stack: str | None = None) -> Evidence | None:
    """Return the evidence of a gate for a stack; None if there is none."""
    return next((one for one in known if (one.gate, one.stack) == (gate, stack)), None)
