"""The checks of `make doctor` and their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from infra.errors import OperationError

Status = Literal["passed", "warning", "failed", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check.

    Attributes:
        status: Whether it passed; only `failed` stops a deployment. Unknown if its facts cannot be read.
        text: What was found, what to do, or why it is unknown.
    """

    status: Status
    text: str


def passed(text: str) -> Outcome:
    """Return that a check passed, and what was found."""
    return Outcome("passed", text)


def warning(text: str) -> Outcome:
    """Return what will not work after the deployment, and what to do."""
    return Outcome("warning", text)


def failed(text: str) -> Outcome:
    """Return that a check failed, and what to do."""
    return Outcome("failed", text)


def unknown(text: str) -> Outcome:
    """Return why the outcome is unknown."""
    return Outcome("unknown", text)


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        name: What is checked.
        examine: Reads the facts and judges them.
        error: The status if `examine` raises an OperationError.
    """

    name: str
    examine: Callable[[], Outcome]
    error: Status = "unknown"

    def outcome(self) -> Outcome:
        """Examine; an error is an outcome, too."""
        try:
            return self.examine()
        except OperationError as error:
            return Outcome(self.error, str(error))
