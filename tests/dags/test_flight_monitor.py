"""The steps of the DAG flight_monitor with real data, a real PostgreSQL, a real S3 server and a real MLflow."""

import io
from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import psycopg
import pytest
from mlflow import MlflowClient
from psycopg.rows import dict_row
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from flight_features import steps as feature_steps
from flight_features.columns import COLUMNS, FEATURES, KEY, TARGET
from flight_monitor import archive, follow_up, months, steps
from flight_monitor.verdicts import Limits, Verdict, judge
from flight_scores import steps as score_steps
from ml_common import feature_store, registry, sql_templates
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket
from tests.dags.conftest import Gauges, publish_year

LIMITS = Limits(minimum_outcomes=500, minimum_skill=0.05, maximum_psi=0.25)
APRIL = months.parse("2013-04")
JULY = months.parse("2013-07")


@pytest.fixture
def model(mlflow_registry: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered model that only this test uses."""
    monkeypatch.setattr(steps, "MODEL", mlflow_registry)
    return mlflow_registry


@pytest.fixture
def store(features: psycopg.Connection, data: Bucket, artifacts: Bucket, model: str) -> psycopg.Connection:
    """A feature store without flights."""
    feature_steps.drop_staging(feature_steps.create_staging("run"))
    features.execute(sql_templates.render(score_steps.SQL / "score_tables.sql", key=KEY))
    return features


def copy(store: psycopg.Connection, table: str, frame: pd.DataFrame) -> None:
    with (
        store.cursor() as cursor,
        cursor.copy(f"COPY {table} ({', '.join(frame.columns)}) FROM STDIN (FORMAT csv)") as target,
    ):
        target.write(frame.to_csv(index=False, header=False).encode())


def flights(count: int, seed: int = 0, day: str = "2013-04-10") -> pd.DataFrame:
    """Flights with random features, and a probability `late_share_route` that is calibrated."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.random(count) for name in FEATURES})
    frame[TARGET] = random.random(count) < frame["late_share_route"]
    frame[["day", "carrier", "origin", "destination"]] = [day, "UA", "EWR", "IAH"]
    frame["flight"] = range(count)
    frame["scheduled_departure"] = f"{day} 10:00"
    return frame


def publish(store: psycopg.Connection, frame: pd.DataFrame) -> None:
    copy(store, "flight_features", frame[[column for column in COLUMNS if column != "tail_number"]])


def score(store: psycopg.Connection, frame: pd.DataFrame, probabilities: Any, version: str) -> None:
    copy(store, "flight_scores", frame[list(KEY)].assign(version=version, probability=probabilities))


def register(artifacts: Bucket, trained_on: pd.DataFrame) -> str:
    """Register a version with its training set, make it the champion, and return it."""
    file = io.BytesIO()
    trained_on[[*FEATURES, TARGET]].to_parquet(file)
    key = f"flight_model/{uuid4()}.parquet"
    artifacts.put(key, file.getvalue())
    version = create_version({steps.TRAINING_SET: key})
    registry.promote(steps.MODEL, version)
    return version


def create_version(tags: Mapping[str, str]) -> str:
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{steps.MODEL}'"):
        client.create_registered_model(steps.MODEL)
    return str(client.create_model_version(steps.MODEL, "s3://mlflow/nothing", tags=dict(tags)).version)


def measure(month: months.Month, limits: Limits = LIMITS) -> follow_up.Report:
    """Run the steps as the DAG does."""
    outcomes = steps.join_outcomes(month)
    return steps.report(month, steps.drift(outcomes), steps.performance(outcomes), limits)


def rows(store: psycopg.Connection) -> list[dict[str, Any]]:
    with store.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM flight_monitor ORDER BY month, version::integer").fetchall()


def fit(trained_on: pd.DataFrame) -> HistGradientBoostingClassifier:
    with threadpool_limits(1):
        return HistGradientBoostingClassifier(random_state=0).fit(trained_on[list(FEATURES)], trained_on[TARGET])


def test_of_a_model_of_january_to_march_exactly_july_requests_a_new_one(
    store: psycopg.Connection, artifacts: Bucket, year: bytes
) -> None:
    publish_year(store, year, date(2013, 12, 31))
    frame = feature_store.to_table(year, feature_steps.PARQUET_TYPES).to_pandas()
    first_quarter = frame["day"] < APRIL.first
    trained_on, scored = frame[first_quarter], frame[~first_quarter]
    with threadpool_limits(1):
        probabilities = fit(trained_on).predict_proba(scored[list(FEATURES)])[:, 1]
    version = register(artifacts, trained_on)
    score(store, scored, probabilities, version)

    reports = [measure(months.parse(f"2013-{number:02}")) for number in range(4, 13)]
    assert [report["month"] for report in reports if report["request"]] == ["2013-07"]
    [request] = [report["request"] for report in reports if report["request"]]
    assert request == {
        "as_of": "2013-08-01",
        "month": "2013-07",
        "reason": "The skill of version 1 is 0.021, below 0.05: it needs a successor.",
    }
    measured = {row["month"]: row for row in rows(store)}
    assert {month: row["verdict"] for month, row in measured.items() if month != "2013-07"} == dict.fromkeys(
        [f"2013-{number:02}" for number in (4, 5, 6, 8, 9, 10, 11, 12)], Verdict.WARN
    )
    assert measured["2013-04"]["auc"] == pytest.approx(0.705, abs=0.005)
    assert measured["2013-04"]["skill"] == pytest.approx(0.071, abs=0.005)
    assert measured["2013-07"]["auc"] == pytest.approx(0.713, abs=0.005)
    assert measured["2013-07"]["psi"]["temperature"] > 3
    assert measured["2013-07"]["psi"]["day_of_week"] < 0.05

    assert measure(JULY) == reports[3]
    assert rows(store) == list(measured.values())
    register(artifacts, trained_on)
    again = measure(JULY)
    assert (again["request"], again["message"]) == (None, None)
    assert rows(store) == list(measured.values())


def test_a_month_sends_the_skill_of_the_latest_version_and_its_minimum(
    store: psycopg.Connection, artifacts: Bucket, gauges: Gauges
) -> None:
    frame = flights(1000)
    publish(store, frame)
    for version, count in (("1", 1000), ("2", 600)):
        register(artifacts, frame)
        score(store, frame[:count], frame["late_share_route"][:count], version)
    measure(APRIL)
    [_, latest] = rows(store)
    labels = f"dag_id=flight_monitor,model={steps.MODEL}"
    expected = {name: latest[name] for name in ("outcomes", "auc", "skill", "minimum_skill")}
    assert gauges() == {f"airflow.ml.{name},{labels}": value for name, value in expected.items()}


def test_a_rerun_replaces_the_row_of_the_month_and_version(store: psycopg.Connection, artifacts: Bucket) -> None:
    frame = flights(1000)
    publish(store, frame)
    score(store, frame, frame["late_share_route"], register(artifacts, frame))
    measure(APRIL)
    [before] = rows(store)
    store.execute("UPDATE flight_features SET late = NOT late WHERE flight < 100")
    measure(APRIL)
    [after] = rows(store)
    assert (after["outcomes"], after["psi"]) == (before["outcomes"], before["psi"])
    assert after["skill"] < before["skill"]


def test_only_the_scores_of_the_latest_version_of_a_flight_count(store: psycopg.Connection, artifacts: Bucket) -> None:
    frame = flights(2000)
    publish(store, frame)
    for _ in range(10):
        register(artifacts, frame)
    score(store, frame, 0.5, "9")
    score(store, frame[:1200], frame["late_share_route"][:1200], "10")
    report = measure(APRIL)
    assert [(row["version"], row["outcomes"], row["verdict"]) for row in rows(store)] == [
        ("9", 800, Verdict.REQUEST),
        ("10", 1200, Verdict.FINE),
    ]
    assert report == {"month": "2013-04", "request": None, "message": None}


def test_only_flights_of_the_month_with_an_outcome_count(store: psycopg.Connection, artifacts: Bucket) -> None:
    inside = pd.concat([flights(300, 1, "2013-04-01"), flights(300, 2, "2013-04-30")])
    outside = pd.concat([flights(300, 3, "2013-03-31"), flights(300, 4, "2013-05-01")])
    version = register(artifacts, inside)
    publish(store, pd.concat([inside, outside]))
    score(store, pd.concat([inside, outside, flights(50, day="2013-04-15")]), 0.5, version)
    measure(APRIL)
    [row] = rows(store)
    assert row["outcomes"] == 600


def test_fewer_than_500_outcomes_request_nothing(store: psycopg.Connection, artifacts: Bucket) -> None:
    frame = flights(499)
    publish(store, frame)
    score(store, frame, 0.9, register(artifacts, frame))
    assert measure(APRIL) == {"month": "2013-04", "request": None, "message": None}
    [row] = rows(store)
    assert row["skill"] < 0
    assert (row["verdict"], row["reason"]) == (
        Verdict.UNDECIDED,
        "Version 1 has 499 outcomes, fewer than 500: nothing is requested.",
    )
    report = measure(APRIL, Limits(minimum_outcomes=499, minimum_skill=0.05, maximum_psi=0.25))
    assert report["request"]


def test_flights_with_one_outcome_request_nothing(store: psycopg.Connection, artifacts: Bucket) -> None:
    frame = flights(600).assign(late=False)
    publish(store, frame)
    score(store, frame, 0.9, register(artifacts, frame))
    assert measure(APRIL)["request"] is None
    [row] = rows(store)
    assert (row["auc"], row["skill"], row["verdict"]) == (None, None, Verdict.UNDECIDED)


def test_drift_alone_warns_and_is_measured_against_the_training_set_of_the_version(
    store: psycopg.Connection, artifacts: Bucket
) -> None:
    frame = flights(1000)
    colder = frame.assign(temperature=frame["temperature"] - 2, wind_gust=np.nan)
    publish(store, frame)
    score(store, frame, frame["late_share_route"], register(artifacts, colder))
    register(artifacts, frame)
    report = measure(APRIL)
    assert (follow_up.next_tasks(report), report["request"]) == (["notify"], None)
    [row] = rows(store)
    assert row["verdict"] == Verdict.WARN
    assert "but the inputs drifted: " in row["reason"]
    assert {name for name, psi in row["psi"].items() if psi} == {"temperature", "wind_gust"}
    assert (row["ks"]["temperature"], row["ks"]["wind_gust"], row["ks"]["pressure"]) == (1, None, 0)
    assert report["message"] == f"{row['reason']}\nPage: s3://{artifacts.name}/flight_monitor/monitor.html"


def test_a_version_that_is_no_longer_the_champion_requests_nothing(
    store: psycopg.Connection, artifacts: Bucket
) -> None:
    frame = flights(1000)
    publish(store, frame)
    score(store, frame, 0.9, register(artifacts, frame))
    report = measure(APRIL)
    assert follow_up.next_tasks(report) == ["request_retraining", "notify"]
    register(artifacts, frame)
    assert follow_up.next_tasks(measure(APRIL)) == []


def test_a_month_without_scores_fails_in_one_sentence(store: psycopg.Connection) -> None:
    expected = r"^There are no scores of 2013-04: run the DAG flight_scores for its days, or choose another month\.$"
    with pytest.raises(PermanentError, match=expected):
        steps.join_outcomes(APRIL)
    store.execute("DROP TABLE flight_scores")
    with pytest.raises(PermanentError, match=expected):
        steps.join_outcomes(APRIL)


def test_a_version_without_a_training_set_is_named(store: psycopg.Connection) -> None:
    frame = flights(600)
    publish(store, frame)
    score(store, frame, 0.5, create_version({}))
    with pytest.raises(PermanentError, match=rf"^Version 1 of {steps.MODEL} has no tag `training_set`: set it in MLfl"):
        steps.drift(steps.join_outcomes(APRIL))


def test_the_page_shows_all_months_and_the_charts(store: psycopg.Connection, artifacts: Bucket) -> None:
    for number in (4, 5):
        frame = flights(600, day=f"2013-0{number}-10")
        publish(store, frame)
        score(store, frame, 0.9, register(artifacts, frame))
        measure(months.parse(f"2013-0{number}"))
    page = artifacts.get(steps.PAGE).decode()
    assert page.index('<td class="day">2013-05</td>') < page.index('<td class="day">2013-04</td>')
    assert page.count("data:image/png;base64,") == 3
    assert page.count('<b class="bad">request</b>') == 3


def test_a_message_says_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str, str]] = []
    monkeypatch.setattr(follow_up, "notify", lambda *message: sent.append(message))
    request = follow_up.Request(as_of="2013-08-01", month="2013-07", reason="why")
    follow_up.send(follow_up.Report(month="2013-07", request=request, message="why"))
    follow_up.send(follow_up.Report(month="2013-05", request=None, message="warm"))
    assert sent == [
        ("flight_monitor", "flight_delays 2013-07: a new model is requested", "why"),
        ("flight_monitor", "flight_delays 2013-05: the inputs drifted", "warm"),
    ]


def test_skill_decides_before_drift() -> None:
    assert judge("1", 500, 0.049, {"temperature": 8.0}, LIMITS).verdict is Verdict.REQUEST
    assert judge("1", 500, 0.05, {"temperature": 8.0}, LIMITS).verdict is Verdict.WARN
    assert judge("1", 500, 0.05, {"temperature": 0.25}, LIMITS).verdict is Verdict.FINE


def test_the_most_drifted_features_are_named_first() -> None:
    psi = {"a": 0.3, "b": 8.0, "c": 0.1, "d": 0.4, "e": 0.5, "f": 0.6, "g": 0.7}
    assert judge("1", 500, 0.1, psi, LIMITS).reason == (
        "The skill of version 1 is 0.100, not below 0.05, but the inputs drifted: "
        "b (PSI 8.00), g (PSI 0.70), f (PSI 0.60), e (PSI 0.50), d (PSI 0.40) and 1 more."
    )


@pytest.mark.parametrize(
    ("key", "end"), [("2013-07", "2013-08-01"), ("2013-12", "2014-01-01"), ("2012-02", "2012-03-01")]
)
def test_a_month_ends_before_the_first_day_of_the_next(key: str, end: str) -> None:
    month = months.of_run(key, {"month": "2000-01"})
    assert (month.key, str(month.end)) == (key, end)
    assert months.of_run(None, {"month": key}) == month


@pytest.mark.parametrize("key", ["2013-13", "2013-07-01", "July", ""])
def test_a_key_that_is_not_a_month_is_named(key: str) -> None:
    with pytest.raises(PermanentError, match=rf"^'{key}' is not a month: start a run with a month, such as 2013-07\.$"):
        months.parse(key)


def storage_classes(data: Bucket) -> dict[str, str]:
    return {entry.key.removeprefix(archive.FOLDER): entry.storage_class for entry in data.list("")}


def test_old_raw_files_get_a_cheaper_storage_class_once(data: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = "flights/2013-05-02.csv", "weather/2013-05-03.csv"
    for name in (old, new, "planes/all.csv"):
        data.put(f"{archive.FOLDER}{name}", name.encode())
    assert archive.archive(JULY.end, 90, "GLACIER_IR") == 1
    assert storage_classes(data) == {old: "GLACIER_IR", new: "STANDARD", "planes/all.csv": "STANDARD"}
    assert data.get(f"{archive.FOLDER}{old}") == old.encode()
    monkeypatch.delattr(Bucket, "set_storage_class")
    assert archive.archive(JULY.end, 90, "GLACIER_IR") == 0


def test_a_store_without_the_storage_class_keeps_the_files_and_the_log_says_so(
    data: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    data.put(f"{archive.FOLDER}flights/2013-01-01.csv", b"")
    assert archive.archive(JULY.end, 90, "FROZEN") == 0
    assert storage_classes(data) == {"flights/2013-01-01.csv": "STANDARD"}
    [sentence] = [record.getMessage() for record in caplog.records if record.name == archive.__name__]
    assert sentence == (
        f"s3://{data.name}/flight_features/raw/ does not have the storage class FROZEN, so the files stay as they are."
    )
