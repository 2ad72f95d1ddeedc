"""What is known of a commit because somebody ran it or looked at it, as it stands in `gates/<commit>.yaml`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from infra.release import Commit, Record

Subject = Literal["tests", "plan", "rehearsal"]


class Evidence(Record):
    """That a commit passed a gate, or failed at it."""

    gate: Subject
    """What was done: the test suite ran, somebody read the plan, the migrations ran on a copy of the database."""
    stack: str | None = None
    """The stack for which it was done; None for all."""
    against: Commit | None = None
    """The commit that the stack was at: the evidence is good only as long as it is there; None where it had none."""
    passed: bool
    """The result."""
    by: str
    """Who did it, as Git knows them."""
    at: datetime
    """When, in UTC."""


def with_latest(known: Iterable[Evidence], new: Evidence) -> list[Evidence]:
    """Return the evidence with the new in place of what it repeats."""
    return [*(one for one in known if (one.gate, one.stack) != (new.gate, new.stack)), new]


def found(known: Iterable[Evidence], gate: Subject, stack: str | None = None) -> Evidence | None:
    """Return the evidence of a gate for a stack; None where there is none."""
    return next((one for one in known if (one.gate, one.stack) == (gate, stack)), None)
