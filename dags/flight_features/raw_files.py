"""The raw files in the data bucket: one CSV file per table and day, and one of all planes.

A file that exists is never overwritten, so a corrected file stays.
"""

from collections.abc import Iterable
from datetime import date

from ml_common import partitions

FOLDER = "flight_features/raw/"
# The columns of each table's files, in their order.
COLUMNS = {
    "flights": (
        *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
        *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour"),
    ),
    "weather": (
        *("origin", "year", "month", "day", "hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
        *("precip", "pressure", "visib", "time_hour"),
    ),
    "planes": ("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine"),
}
TABLES = tuple(COLUMNS)
# Flights of these earlier days are read for the shares of late flights.
HISTORY_DAYS = 7


def folder(table: str) -> str:
    """Return the folder of a table's files."""
    return f"{FOLDER}{table}/"


def key(table: str, day: date | None) -> str:
    """Return the key of a day's file, or of the file of a table that has no days."""
    return f"{folder(table)}{day or 'all'}.csv"


def needed(table: str, days: Iterable[date]) -> dict[str, date | None]:
    """Return the keys that the features of these days are computed from, with the day of each."""
    if table == "planes":
        return {key(table, None): None}
    wanted = partitions.with_days_before(days, HISTORY_DAYS if table == "flights" else 0)
    return {key(table, day): day for day in wanted}
