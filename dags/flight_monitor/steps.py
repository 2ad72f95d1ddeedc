"""The steps as plain functions. They pass each other keys and small values; the data stays in the artifacts bucket."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from sklearn.metrics import roc_auc_score

from flight_features.columns import FEATURES, KEY, TARGET
from flight_monitor import follow_up, page
from flight_monitor.follow_up import DAG, Report, Request
from flight_monitor.months import Month
from flight_monitor.verdicts import Judgement, Limits, Verdict, judge
from ml_common import feature_store, lineage, metrics, pages, registry, sql_templates, statistics
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket

log = logging.getLogger(__name__)

MODEL = follow_up.MODEL
TRAINING_SET = "training_set"
SQL = Path(__file__).with_name("sql")
FOLDER = "flight_monitor/"
PAGE = f"{FOLDER}monitor.html"
PARQUET_TYPES = {
    "day": pyarrow.date32(),
    "carrier": pyarrow.string(),
    "flight": pyarrow.int32(),
    "scheduled_departure": pyarrow.timestamp("s"),
    **dict.fromkeys(FEATURES, pyarrow.float64()),
    TARGET: pyarrow.bool_(),
    "version": pyarrow.string(),
    "probability": pyarrow.float64(),
}
JSON_COLUMNS = ("calibration", "psi", "ks")

ByVersion = Mapping[str, Mapping[str, Any]]


def join_outcomes(month: Month) -> str:
    """Store the scores of a month with the outcomes and the features of the flights; return the key.

    Raises:
        PermanentError: There are no scores of the month.
    """
    query = _sql("outcomes.sql", key=KEY, columns=(*KEY, *FEATURES, TARGET))
    days = {"first": month.first, "end": month.end}
    try:
        with (
            feature_store.transaction() as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", days) as copy,
        ):
            content = b"".join(bytes(block) for block in copy)
            for table in ("flight_scores", "flight_features"):
                lineage.reads(feature_store.uri(connection, table))
    except psycopg.errors.UndefinedTable:
        content = b""
    if content.count(b"\n") <= 1:
        raise PermanentError(
            f"There are no scores of {month.key}: run the DAG flight_scores for its days, or choose another month."
        )
    key = f"{FOLDER}outcomes/{month.key}.parquet"
    artifacts_bucket().put(key, feature_store.to_parquet(content, PARQUET_TYPES))
    return key


def drift(outcomes: str) -> dict[str, dict[str, Any]]:
    """Compare the features of each version's flights with its training set.

    Returns:
        The population stability index and the Kolmogorov-Smirnov distance of each feature, by version.

    Raises:
        PermanentError: The training set of a version is unknown.
    """
    measured = {}
    for version, flights in _by_version(outcomes):
        trained_on = _training_set(version)
        measured[version] = {
            "psi": {name: statistics.population_stability_index(trained_on[name], flights[name]) for name in FEATURES},
            "ks": {name: statistics.kolmogorov_smirnov(trained_on[name], flights[name]) for name in FEATURES},
        }
    return measured


def performance(outcomes: str) -> dict[str, dict[str, Any]]:
    """Compare the probabilities of each version with the outcomes.

    Returns:
        The metrics by version. There is no AUC and no skill if all flights had the same outcome.
    """
    measured = {}
    for version, flights in _by_version(outcomes):
        late, probabilities = flights[TARGET], flights["probability"]
        base_rate = float(late.mean())
        measured[version] = {
            "outcomes": len(flights),
            "base_rate": base_rate,
            "auc": float(roc_auc_score(late, probabilities)) if 0 < base_rate < 1 else None,
            "brier": statistics.brier_score(late, probabilities),
            "skill": statistics.brier_skill(late, probabilities, base_rate),
            "calibration": [asdict(one) for one in statistics.calibration(late, probabilities)],
        }
    return measured


def report(month: Month, drifts: ByVersion, performances: ByVersion, limits: Limits) -> Report:
    """Judge each version, record it in the table `flight_monitor`, write the page, and decide what follows.

    A new model is requested only if the judged version is still the champion: a month that runs again after a
    retraining requests nothing.
    """
    judgements = {
        version: judge(version, measured["outcomes"], measured["skill"], drifts[version]["psi"], limits)
        for version, measured in performances.items()
    }
    rows = [
        {
            "month": month.key,
            "version": version,
            **performances[version],
            **drifts[version],
            "minimum_skill": limits.minimum_skill,
            "maximum_psi": limits.maximum_psi,
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
        }
        for version, judgement in judgements.items()
    ]
    _record(rows)
    latest = {name: rows[-1][name] for name in ("outcomes", "auc", "skill", "minimum_skill")}
    metrics.send(latest, dag_id=DAG, model=MODEL)
    for judgement in judgements.values():
        log.info(judgement.reason)
    return _what_follows(month, judgements)


def _what_follows(month: Month, judgements: Mapping[str, Judgement]) -> Report:
    champion = registry.champion_version(MODEL)
    wanted: Request | None = None
    for version, judgement in judgements.items():
        if judgement.verdict is Verdict.REQUEST and version == champion:
            wanted = Request(as_of=str(month.end), month=month.key, reason=judgement.reason)
        elif judgement.verdict is Verdict.REQUEST:
            log.info("Version %s is no longer the champion, so nothing is requested.", version)
    tell = wanted or any(judgement.verdict is Verdict.WARN for judgement in judgements.values())
    sentences = [judgement.reason for judgement in judgements.values()]
    return Report(
        month=month.key,
        request=wanted,
        message="\n".join([*sentences, f"Page: {artifacts_bucket().uri(PAGE)}"]) if tell else None,
    )


def _by_version(outcomes: str) -> Iterator[tuple[str, pd.DataFrame]]:
    flights = pd.read_parquet(io.BytesIO(artifacts_bucket().get(outcomes)))
    for version in sorted(flights["version"].unique(), key=int):
        yield str(version), flights[flights["version"] == version]


def _training_set(version: str) -> pd.DataFrame:
    key = registry.tags(MODEL, version).get(TRAINING_SET)
    if key is None:
        raise PermanentError(
            f"Version {version} of {MODEL} has no tag `{TRAINING_SET}`: set it in MLflow to the key of the Parquet "
            "file that it was trained on."
        )
    return pd.read_parquet(io.BytesIO(artifacts_bucket().get(key)), columns=list(FEATURES))


def _record(rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the rows of a month's versions, and write the page of all months."""
    with feature_store.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_sql("monitor_table.sql"))
        cursor.execute("LOCK TABLE flight_monitor IN SHARE ROW EXCLUSIVE MODE")
        for row in rows:
            values = {**row, **{name: Jsonb(row[name]) for name in JSON_COLUMNS}}
            cursor.execute(_sql("record.sql", columns=list(row)), values)
        months = cursor.execute("SELECT * FROM flight_monitor ORDER BY month, version::integer").fetchall()
        artifacts_bucket().put(PAGE, page.render(months), pages.CONTENT_TYPE)


def _sql(file: str, **names: Any) -> str:
    return sql_templates.render(SQL / file, **names)
