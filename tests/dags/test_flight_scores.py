"""The steps of the DAG flight_scores with real features, a real PostgreSQL, S3 server and MLflow server."""

import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import psycopg
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors
from mlflow.models import Model
from moto.server import ThreadedMotoServer

from flight_scores import flight_scores_dag, page, steps
from flight_scores.contributions import contributions
from ml_common import registry
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket
from tests.dags import test_flight_features as features_of
from tests.dags.test_flight_features import edit

DAY = date(2013, 1, 10)
NEXT_DAY = DAY + timedelta(days=1)

# Weighs the share of late flights of the carrier and the minute of the day.
CODE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
class Delays(PythonModel):
    def predict(self, context, model_input):
        return (model_input["late_share_carrier"] * {weight} + model_input["minute_of_day"] / 1440 * 0.5).to_numpy()
set_model(Delays())
"""

pytestmark = pytest.mark.usefixtures("features", "data", "artifacts", "read_once", "model")

Promote = Callable[..., str]


@pytest.fixture
def model(mlflow_registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered model that only this test uses, without a version."""
    monkeypatch.setattr(steps, "MODEL", mlflow_registry)


@pytest.fixture
def promote(model: None, tmp_path: Path) -> Promote:
    """Register a version and make it the champion."""

    def promoted(weight: float = 0.5) -> str:
        code = tmp_path / f"{weight}.py"
        code.write_text(CODE.format(weight=weight))

        def write(folder: Path, entry: Model) -> None:
            mlflow.pyfunc.save_model(folder, python_model=str(code), mlflow_model=entry, pip_requirements=[])

        run = registry.Run(training_key=str(weight), name="delays", params={}, metrics=[])
        version = registry.register(steps.MODEL, run, write)
        registry.promote(steps.MODEL, version)
        return version

    return promoted


def run(*days: date) -> steps.Scored:
    """Run the steps as the DAG does."""
    return steps.score(steps.champion(), days)


def stored(features: psycopg.Connection, table: str = "flight_scores") -> list[tuple[Any, ...]]:
    """The rows of a table with the transactions that wrote them."""
    return sorted(features.execute(f"SELECT xmin, * FROM {table}").fetchall(), key=repr)


def files(artifacts: Bucket) -> dict[str, bytes]:
    return {entry.key: artifacts.get(entry.key) for entry in artifacts.list(steps.FOLDER)}


def without_late_share(flights: list[dict[str, str]]) -> None:
    """Make all flights of the day punctual."""
    for flight in flights:
        flight["arr_delay"] = "0"


def test_every_flight_of_a_day_gets_the_probability_of_the_champion(
    features: psycopg.Connection, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY)
    promote(weight=0.25)
    version = promote(weight=0.5)
    scored = run(DAY)
    assert scored == {"version": version, "days": 1, "scored_days": 1, "scored_flights": 932}
    rows = features.execute(
        "SELECT carrier, flight, scheduled_departure, origin, destination, tail_number, probability, "
        "late_share_carrier * 0.5 + minute_of_day / 1440 * 0.5 FROM flight_scores "
        "JOIN flight_features USING (day, carrier, flight, scheduled_departure) WHERE day = %s AND version = %s "
        "ORDER BY carrier, flight, scheduled_departure",
        [DAY, version],
    ).fetchall()
    assert len(rows) == 932
    assert [row[6] for row in rows] == pytest.approx([row[7] for row in rows], abs=1e-12)
    lines = artifacts.get(steps.csv_key(DAY, version)).decode().splitlines()
    assert lines[0] == "day,carrier,flight,scheduled_departure,origin,destination,tail_number,probability"
    expected = [",".join([str(DAY), *("" if value is None else str(value) for value in row[:7])]) for row in rows]
    assert lines[1:] == expected


def test_a_day_that_is_scored_again_changes_no_row_and_no_file(
    features: psycopg.Connection, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY)
    promote()
    run(DAY)
    before = stored(features), stored(features, "flight_scores_partitions"), files(artifacts)
    assert run(DAY)["scored_days"] == 0
    assert (stored(features), stored(features, "flight_scores_partitions"), files(artifacts)) == before


def test_days_in_any_order_give_the_files_of_one_run_of_all_days(
    features: psycopg.Connection, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY, NEXT_DAY)
    promote()
    run(NEXT_DAY)
    run(DAY)
    before = files(artifacts)
    features.execute("TRUNCATE flight_scores, flight_scores_partitions")
    for key in before:
        artifacts.put(key, b"")
    assert run(DAY, NEXT_DAY)["scored_days"] == 2
    assert files(artifacts) == before


def test_without_a_champion_the_run_is_skipped_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # The server of this process may have a champion of another test.
    monkeypatch.setattr(steps, "MODEL", "unknown")
    with pytest.raises(
        AirflowSkipException,
        match=r"^Scored nothing, because the model unknown has no champion: run the DAG flight_model, then run",
    ):
        steps.champion()


def test_a_day_with_other_features_is_scored_again(
    features: psycopg.Connection, data: Bucket, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY, NEXT_DAY)
    version = promote()
    run(DAY, NEXT_DAY)
    before = stored(features)
    edit(data, "flights", DAY, without_late_share)
    features_of.run(DAY, NEXT_DAY)
    scored = run(DAY, NEXT_DAY)
    assert scored["scored_days"] == 1
    assert [row for row in stored(features) if row[1] == DAY] == [row for row in before if row[1] == DAY]
    assert [row for row in stored(features) if row[1] == NEXT_DAY] != [row for row in before if row[1] == NEXT_DAY]
    probabilities = features.execute("SELECT probability FROM flight_scores WHERE day = %s", [NEXT_DAY]).fetchall()
    content = pd.read_csv(io.BytesIO(artifacts.get(steps.csv_key(NEXT_DAY, version))))
    assert sorted(content["probability"]) == pytest.approx(sorted(value for (value,) in probabilities))


def test_a_new_champion_leaves_the_scores_of_the_earlier_version(
    features: psycopg.Connection, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY)
    first = promote(weight=0.25)
    run(DAY)
    before = stored(features), artifacts.get(steps.csv_key(DAY, first))
    second = promote(weight=0.5)
    assert run(DAY)["scored_flights"] == 932
    assert [row for row in stored(features) if row[5] == first] == before[0]
    assert artifacts.get(steps.csv_key(DAY, first)) == before[1] != artifacts.get(steps.csv_key(DAY, second))


def test_a_lost_file_is_written_again_from_the_table(
    features: psycopg.Connection, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY)
    key = steps.csv_key(DAY, promote())
    run(DAY)
    before = stored(features), artifacts.get(key)
    artifacts.move(key, "elsewhere", {})
    assert run(DAY)["scored_days"] == 0
    assert (stored(features), artifacts.get(key)) == before


def test_two_runs_at_the_same_time_score_a_day_once(features: psycopg.Connection, promote: Promote) -> None:
    features_of.run(DAY)
    promote()
    with ThreadPoolExecutor(2) as pool:
        scored = [one["scored_days"] for one in pool.map(run, [DAY, DAY])]
    assert sorted(scored) == [0, 1]
    assert features.execute("SELECT count(*) FROM flight_scores").fetchone() == (932,)


def test_days_without_features_are_named_before_any_day_is_scored(artifacts: Bucket, promote: Promote) -> None:
    promote()
    with pytest.raises(PermanentError, match=r"^Scored nothing, because there are no features of 2013-01-10: run the"):
        run(DAY)
    features_of.run(DAY)
    others = [DAY + timedelta(days=number) for number in range(1, 6)]
    with pytest.raises(
        PermanentError, match=r" 2013-01-11, 2013-01-12, 2013-01-13 and 2 more days: run the DAG flight"
    ):
        run(DAY, *others)
    assert files(artifacts) == {}


def test_a_model_that_returns_no_probabilities_is_refused(features: psycopg.Connection, promote: Promote) -> None:
    features_of.run(DAY)
    promote(weight=100)
    with pytest.raises(PermanentError, match=r"^Version 1 of .* does not return one probability per flight: make ano"):
        run(DAY)
    assert stored(features) == []


def test_an_object_store_that_fails_changes_no_row(
    features: psycopg.Connection, s3: ThreadedMotoServer, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    features_of.run(DAY)
    version = promote()
    predict = steps._predictor(version)
    monkeypatch.setattr(steps, "_predictor", lambda _version: predict)
    s3.stop()
    try:
        with pytest.raises(ServiceUnavailableError):
            steps.score(version, [DAY])
    finally:
        s3.start()
    assert stored(features) == []
    assert run(DAY)["scored_days"] == 1


def test_the_page_shows_the_riskiest_flights_of_the_latest_day_and_why(
    features: psycopg.Connection, artifacts: Bucket, promote: Promote
) -> None:
    features_of.run(DAY, NEXT_DAY)
    version = promote()
    run(NEXT_DAY)
    run(DAY)
    text = artifacts.get(steps.PAGE).decode()
    assert "<h1>Riskiest flights of 2013-01-11</h1>" in text
    assert f"<b>{version}</b><span>version of flight_delays" in text
    assert text.count('<td class="right">') == page.FLIGHTS
    [expected] = features.execute(
        "SELECT carrier, flight, origin, destination, to_char(scheduled_departure, 'HH24:MI'), probability "
        "FROM flight_scores JOIN flight_features USING (day, carrier, flight, scheduled_departure) "
        "WHERE day = %s ORDER BY probability DESC, carrier, flight LIMIT 1",
        [NEXT_DAY],
    )
    carrier, flight, origin, destination, departure, probability = expected
    [first, *_] = text.split("<tr>")[2:]
    for cell in (f"{carrier} {flight}", departure, f"{origin} → {destination}", f"{probability:.1%}"):
        assert f">{cell}</td>" in first
    assert re.search(r"minute of day [0-9.e+]+ <span class=\"bad\">\+[0-9]+<", first)
    assert "wind" not in first


@pytest.mark.parametrize("partition_key", [None, "2013-01-10"], ids=["by hand", "with a key"])
def test_a_run_gives_one_event_per_day(partition_key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "score", lambda _version, days: len(days))
    events = OutletEventAccessors()
    task: Any = flight_scores_dag.flight_scores().get_task("score")
    task.python_callable(
        version="2",
        dag_run=SimpleNamespace(partition_key=partition_key),
        params={"first": "2013-01-10", "last": "2013-01-11"},
        outlet_events=events,
    )
    event = events[flight_scores_dag.SCORES]
    assert event.partition_keys == {"2013-01-10"} | ({"2013-01-11"} if partition_key is None else set())
    assert event.extra == {"version": "2"}


def test_contributions_are_what_the_model_adds_for_each_feature() -> None:
    flights = pd.DataFrame({"hour": [6.0, 20.0], "wind": [np.nan, 30.0], "distance": [100.0, 100.0]})
    typical = pd.Series({"hour": 12.0, "wind": 10.0, "distance": 500.0})

    def predict(rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(rows.hour / 100 + rows.wind.fillna(20) / 100)

    found = contributions(predict, flights, typical)
    assert found.to_numpy() == pytest.approx(np.array([[-0.06, 0.1, 0], [0.08, 0.2, 0]]))
