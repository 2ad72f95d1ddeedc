"""The training set: all flights before a day, frozen as one file that later changes of features do not reach."""

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd
import psycopg
import pyarrow
from pyarrow import compute, parquet

from flight_features.columns import COLUMNS, FEATURES, KEY, TARGET
from flight_model.outputs import Frozen
from ml_common import feature_store, partitions
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket

log = logging.getLogger(__name__)

TABLE = "flight_features"
FOLDER = "flight_model/training_sets/"
FILE = "flights.parquet"
SHOWN = 3
# Candidates are fitted on what is left of the days, the better one is chosen, and measured: each needs a few weeks.
SHARES = 3
TYPES = {
    **dict.fromkeys(COLUMNS, pyarrow.string()),
    "day": pyarrow.date32(),
    **dict.fromkeys(FEATURES, pyarrow.float64()),
    TARGET: pyarrow.bool_(),
}


@dataclass(frozen=True)
class Split:
    """How the days before `as_of` are used; each range ends before the next begins.

    Attributes:
        as_of: The day after the last day of the training set.
        evaluation_days: The length of the last two ranges.
    """

    as_of: date
    evaluation_days: int

    @property
    def choice_begins(self) -> date:
        """Candidates are fitted on the days before this one, and compared on the days from it."""
        return self.as_of - timedelta(days=2 * self.evaluation_days)

    @property
    def evaluation_begins(self) -> date:
        """The chosen candidate is fitted again on the days before this one, and evaluated on the days from it."""
        return self.as_of - timedelta(days=self.evaluation_days)


def as_of(param: str | None, requests: Sequence[Mapping[str, str]]) -> date:
    """Return the day before which flights are used: the Param, the last one requested, or after the last published day.

    Args:
        param: The Param `as_of`.
        requests: The extra of the events that started the run.

    Raises:
        PermanentError: The Param is not a day, or no day is published.
    """
    wanted = param or max((request["as_of"] for request in requests), default=None)
    if wanted:
        return partitions.day("Param `as_of`", wanted)
    published = _published()
    if not published:
        raise PermanentError("No day is published: run flight_features first.")
    return published[-1] + timedelta(days=1)


def freeze(split: Split) -> Frozen:
    """Store the flights before `as_of`, once for the same rows.

    Raises:
        PermanentError: Days are missing.
    """
    bucket = artifacts_bucket()
    days = [day for day in _published() if day < split.as_of]
    _require(days, split)
    with feature_store.transaction() as connection:
        rows = feature_store.partitions_csv(connection, [TABLE], COLUMNS, KEY, days[0], days[-1])
    checksum = feature_store.checksum(rows)
    folder = f"{FOLDER}{checksum[:16]}/"
    manifest = bucket.published(folder)
    if manifest is None:
        content = feature_store.to_parquet(rows, TYPES)
        late = parquet.read_table(io.BytesIO(content), columns=[TARGET])[TARGET]
        manifest = {
            "training_set": folder + FILE,
            "sha256": checksum,
            "first": str(days[0]),
            "last": str(days[-1]),
            "days": len(days),
            "rows": len(late),
            "late": compute.sum(late).as_py(),
        }
        bucket.publish(folder, {FILE: content}, manifest)
    log.info("Froze %d flights of %d days as %s.", manifest["rows"], manifest["days"], bucket.uri(folder + FILE))
    frozen: Frozen = {**manifest, "as_of": str(split.as_of), "evaluation_days": split.evaluation_days}  # type: ignore[typeddict-item]
    return frozen


def _published() -> list[date]:
    """Return the days of the feature table, in order."""
    try:
        with feature_store.transaction() as connection:
            return [day for (day,) in connection.execute("SELECT DISTINCT day FROM flight_features ORDER BY day")]
    except psycopg.errors.UndefinedTable:
        return []


def _require(days: Sequence[date], split: Split) -> None:
    minimum = SHARES * split.evaluation_days
    if not days:
        raise PermanentError(
            f"No day before {split.as_of} is published: run flight_features for at least {minimum} days."
        )
    wanted = partitions.between(days[0], split.as_of - timedelta(days=1))
    missing = [str(day) for day in wanted if day not in set(days)]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise PermanentError(
            f"{len(missing)} of the {len(wanted)} days from {days[0]} to {wanted[-1]} are not published "
            f"({', '.join(missing[:SHOWN])}{more}): run flight_features for them, or start a run with an earlier as_of."
        )
    if len(days) < minimum:
        raise PermanentError(
            f"{len(days)} days before {split.as_of} are published instead of at least {minimum}, {SHARES} times "
            "evaluation_days: run flight_features for earlier days, or start a run with fewer evaluation_days."
        )


def read(key: str, first: date | None = None, before: date | None = None) -> pd.DataFrame:
    """Read the flights of a frozen training set, from the day `first` and before the day `before`."""
    bounds = [("day", ">=", first)] * bool(first) + [("day", "<", before)] * bool(before)
    content = io.BytesIO(artifacts_bucket().get(key))
    return parquet.read_table(content, columns=["day", *FEATURES, TARGET], filters=bounds or None).to_pandas()
