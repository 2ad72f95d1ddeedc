"""The published features of flights, read from the Parquet files of flight_features."""

import io
from collections.abc import Iterable
from datetime import date, timedelta

import pandas as pd

from flight_features.columns import FEATURES, TARGET
from ml_common.errors import PermanentError
from ml_common.object_store import data_bucket
from ml_common.partitions import between, day

# As flight_features publishes them.
PARTITION = "flight_features/partitions/day={day}/features.parquet"


def read(first: str, last: str) -> pd.DataFrame:
    """Read the features and the target of the flights from `first` to `last`, with their day.

    Raises:
        PermanentError: A day is not published, or `last` is before `first`.
    """
    days = between(day("parameter `first`", first), day("parameter `last`", last))
    if not days:
        raise PermanentError(f"The parameter `last`, {last}, is before the parameter `first`, {first}.")
    return pd.concat(_partitions(days), ignore_index=True)


def _partitions(days: Iterable[date]) -> Iterable[pd.DataFrame]:
    bucket = data_bucket()
    for one in days:
        key = PARTITION.format(day=one)
        if not bucket.exists(key):
            raise PermanentError(f"The features of {one} are not published: run flight_features for this day first.")
        yield pd.read_parquet(io.BytesIO(bucket.get(key)), columns=["day", *FEATURES, TARGET])


def split(flights: pd.DataFrame, evaluation_days: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split flights into those before the last `evaluation_days` days, and those of these days.

    Raises:
        PermanentError: No day is left to train on.
    """
    begins = flights["day"].max() - timedelta(days=evaluation_days - 1)
    before = flights["day"] < begins
    if not before.any():
        raise PermanentError(
            f"No day before the last {evaluation_days} is left to train on: start a run with more days."
        )
    return flights[before], flights[~before]
