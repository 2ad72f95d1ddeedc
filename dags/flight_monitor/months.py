"""Monthly partitions: which month a run measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ml_common.errors import PermanentError


@dataclass(frozen=True)
class Month:
    """A month; `first` is its first day."""

    first: date

    @property
    def key(self) -> str:
        """The partition key, such as 2013-07."""
        return f"{self.first:%Y-%m}"

    @property
    def end(self) -> date:
        """The first day after the month."""
        return (self.first + timedelta(days=31)).replace(day=1)


def parse(key: str) -> Month:
    """Return the month of a partition key.

    Raises:
        PermanentError: It is not a month.
    """
    try:
        return Month(date.fromisoformat(f"{key}-01"))
    except ValueError as error:
        raise PermanentError(f"{key!r} is not a month: start a run with a month, such as 2013-07.") from error


def of_run(partition_key: str | None, params: Mapping[str, Any]) -> Month:
    """Return the month of the partition key or, in a run without one, of the Param `month`."""
    return parse(params["month"] if partition_key is None else partition_key)
