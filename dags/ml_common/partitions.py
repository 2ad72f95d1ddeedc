"""Daily partitions: which days a run processes.

A scheduled run and a run of a backfill have a partition key, which is a day such as 2013-01-31. A run that was
triggered by hand has none and processes the days from the Param `first` to the Param `last`.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from ml_common.errors import PermanentError

KEY_FORMAT = "%Y-%m-%d"
# The JSON schema of a Param with a day.
DAY: dict[str, Any] = {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}


def days(partition_key: str | None, params: Mapping[str, Any]) -> list[date]:
    """Return the days that a run processes, in order.

    Raises:
        PermanentError: The key or a Param is not a day, or the last day is before the first.
    """
    if partition_key is not None:
        return [day("partition key", partition_key)]
    first, last = day("Param `first`", params["first"]), day("Param `last`", params["last"])
    if last < first:
        raise PermanentError(
            f"The Param `last`, {last}, is before the Param `first`, {first}: start a run with other days."
        )
    return between(first, last)


def between(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def with_days_before(days: Iterable[date], count: int) -> list[date]:
    """Return the days, and the `count` days before each of them, in order."""
    return sorted({day - timedelta(days=number) for day in days for number in range(count + 1)})


def day(name: str, text: str) -> date:
    """Return the day that a text means.

    Raises:
        PermanentError: The text is not a day; the message calls it `name`.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise PermanentError(f"The {name} is {text!r}: start a run with a day, such as 2013-01-31.") from error
