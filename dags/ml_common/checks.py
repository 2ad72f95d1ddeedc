"""Checks of partitions: rules about what was counted in each day, which halt the run or warn.

A check compares a count with a total: at most a share of the total may be counted. SQL counts; the rules are pure
functions, so that they are tested without a database.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from ml_common.errors import PermanentError

SHOWN = 3


@dataclass(frozen=True)
class Check:
    """A rule about one day.

    Attributes:
        counted: The name of the count.
        total: The name of the total that the count is a part of.
        limit: The share of the total that may be counted.
        sentence: What is wrong, with the names of counts and totals in braces.
        halts: Whether the run halts; otherwise it goes on with a warning.
    """

    counted: str
    total: str
    limit: float
    sentence: str
    halts: bool


@dataclass(frozen=True)
class Finding:
    """A day that violates a check."""

    day: date
    sentence: str
    halts: bool


def findings(checks: Iterable[Check], counts: Mapping[date, Mapping[str, Any]]) -> list[Finding]:
    """Return what violates the checks, given the counts of each day."""
    checks = list(checks)
    return [
        Finding(day, check.sentence.format(**of_day), check.halts)
        for day, of_day in counts.items()
        for check in checks
        if of_day[check.counted] > check.limit * of_day[check.total]
    ]


def halt(found: Iterable[Finding], remedy: str) -> None:
    """Fail if a finding halts the run.

    Raises:
        PermanentError: A finding halts the run; the message names the first days and ends with the remedy.
    """
    halting = [f"{finding.day} {finding.sentence}" for finding in found if finding.halts]
    if halting:
        more = f", and {len(halting) - SHOWN} more" if len(halting) > SHOWN else ""
        raise PermanentError(f"Nothing was published: {', '.join(halting[:SHOWN])}{more}; {remedy}.")
