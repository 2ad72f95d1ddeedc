"""The steps as plain functions."""

import io
import logging
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
import psycopg
import pyarrow
from airflow.sdk.exceptions import AirflowSkipException
from psycopg.rows import dict_row
from pyarrow import csv

from flight_features.columns import DETAILS, FEATURES, KEY
from flight_scores import page
from flight_scores.contributions import Predict
from ml_common import feature_store, lineage, pages, registry, sql_templates
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket
from ml_common.parallel import parallel_map

log = logging.getLogger(__name__)

MODEL = "flight_delays"
SQL = Path(__file__).with_name("sql")
FOLDER = "flight_scores/"
PAGE = f"{FOLDER}riskiest.html"
SHOWN_DAYS = 3
# What the scores of a day depend on. The outcome of the flights is not part of it.
INPUTS = (*KEY, *DETAILS, *FEATURES)
TYPES = {
    **{name: pyarrow.string() for name in INPUTS},
    **dict.fromkeys(FEATURES, pyarrow.float64()),
    "flight": pyarrow.int32(),
    "scheduled_departure": pyarrow.timestamp("s"),
}
SCORES = (*KEY, "version", "probability")


class Scored(TypedDict):
    """What a run did: how many days it has, and how many of them were scored, the others being up to date."""

    version: str
    days: int
    scored_days: int
    scored_flights: int


class Partition(NamedTuple):
    """The scores of a day as CSV, and how many flights this run scored."""

    day: date
    content: bytes
    scored_flights: int


def champion() -> str:
    """Return the version of the champion.

    Raises:
        AirflowSkipException: There is none.
    """
    version = registry.champion_version(MODEL)
    if version is None:
        raise AirflowSkipException(
            f"Scored nothing, because the model {MODEL} has no champion: run the DAG flight_model, then run these days "
            "again."
        )
    return version


def score(version: str, days: Sequence[date]) -> Scored:
    """Score the flights of these days, except where the version has scored the same features before.

    Writes the table, one CSV file per day, and the page.

    Raises:
        PermanentError: A day has no features, or the model returns something else than probabilities.
    """
    with feature_store.transaction() as connection:
        connection.execute(_sql("score_tables.sql", key=KEY))
        _require_features(connection, days)
    predict = _predictor(version)
    bucket = artifacts_bucket()

    def store(partition: Partition) -> int:
        key = csv_key(partition.day, version)
        if partition.scored_flights or not bucket.exists(key):
            bucket.put(key, partition.content, "text/csv; charset=utf-8")
        return partition.scored_flights

    with feature_store.transaction() as connection:
        connection.execute(_sql("lock_scores.sql"))
        scored = list(parallel_map(store, _partitions(connection, predict, version, days)))
        _write_page(connection, predict, version)
    return Scored(version=version, days=len(days), scored_days=sum(map(bool, scored)), scored_flights=sum(scored))


def csv_key(day: date, version: str) -> str:
    """Return the key of a day's scores in the artifacts bucket."""
    return f"{FOLDER}day={day}/version={version}.csv"


def _require_features(connection: psycopg.Connection[Any], days: Sequence[date]) -> None:
    try:
        missing = [str(day) for (day,) in connection.execute(_sql("missing_days.sql"), {"days": list(days)})]
    except psycopg.errors.UndefinedTable:
        missing = [str(day) for day in days]
    if missing:
        more = f" and {len(missing) - SHOWN_DAYS} more days" if len(missing) > SHOWN_DAYS else ""
        raise PermanentError(
            f"Scored nothing, because there are no features of {', '.join(missing[:SHOWN_DAYS])}{more}: run the DAG "
            "flight_features for these days first."
        )


def _predictor(version: str) -> Predict:
    """Return a function that returns the probabilities of flights, given their features."""
    model = registry.load(MODEL, version)

    def predict(features: pd.DataFrame) -> np.ndarray:
        probabilities = np.asarray(model.predict(features), dtype=np.float64)
        if probabilities.shape != (len(features),) or not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise PermanentError(
                f"Version {version} of {MODEL} does not return one probability per flight: make another version the "
                "champion."
            )
        return probabilities

    return predict


def _partitions(
    connection: psycopg.Connection[Any], predict: Predict, version: str, days: Sequence[date]
) -> Iterator[Partition]:
    for day in days:
        scored = _score_day(connection, predict, version, day)
        frame = _scored_flights(connection, version, day, columns=(*KEY, *DETAILS), order=KEY)
        yield Partition(day, frame.to_csv(index=False).encode(), scored)


def _score_day(connection: psycopg.Connection[Any], predict: Predict, version: str, day: date) -> int:
    """Replace the scores of a day unless they are those of its features; return how many flights were scored."""
    features = feature_store.partition_csv(connection, ("flight_features",), INPUTS, KEY, day)
    checksum = feature_store.checksum(features)
    of_day = {"day": day, "version": version, "checksum": checksum}
    recorded = connection.execute(
        "SELECT features_checksum FROM flight_scores_partitions WHERE day = %(day)s AND version = %(version)s", of_day
    ).fetchone()
    if recorded == (checksum,):
        return 0
    flights = feature_store.to_table(features, TYPES)
    probabilities = predict(flights.select(FEATURES).to_pandas())
    scores = flights.select(KEY).append_column("version", pyarrow.array([version] * len(flights)))
    connection.execute("DELETE FROM flight_scores WHERE day = %(day)s AND version = %(version)s", of_day)
    _copy(connection, scores.append_column("probability", pyarrow.array(probabilities)))
    connection.execute(_sql("record_partition.sql"), of_day)
    return len(flights)


def _copy(connection: psycopg.Connection[Any], scores: pyarrow.Table) -> None:
    file = io.BytesIO()
    csv.write_csv(scores, file)
    command = f"COPY flight_scores ({', '.join(SCORES)}) FROM STDIN (FORMAT csv, HEADER MATCH)"
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        copy.write(file.getvalue())
    lineage.writes(feature_store.uri(connection, "flight_scores"))


def _scored_flights(
    connection: psycopg.Connection[Any], version: str, day: date, columns: Sequence[str], order: Sequence[str]
) -> pd.DataFrame:
    """Return these columns of a day's flights, and their probabilities."""
    query = _sql("scored_flights.sql", key=KEY, columns=columns, order=order)
    with connection.cursor(row_factory=dict_row) as cursor:
        return pd.DataFrame(cursor.execute(query, {"day": day, "version": version}).fetchall())


def _write_page(connection: psycopg.Connection[Any], predict: Predict, version: str) -> None:
    """Write the page of the latest day that the version has scored."""
    [(day,)] = connection.execute("SELECT max(day) FROM flight_scores_partitions WHERE version = %s", [version])
    flights = _scored_flights(connection, version, day, columns=INPUTS, order=("probability DESC", *KEY))
    flights = flights.astype(dict.fromkeys(FEATURES, float))
    artifacts_bucket().put(PAGE, page.render(predict, version, day, flights), pages.CONTENT_TYPE)


def _sql(file: str, **names: Any) -> str:
    return sql_templates.render(SQL / file, **names)
