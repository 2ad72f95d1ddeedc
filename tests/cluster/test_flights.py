"""The DAGs of flights on the cluster, with a month of data: features, a model, its scores, and the monitor."""

import base64
from collections.abc import Iterator
from datetime import date
from typing import Any

import boto3
import httpx
import pytest

from flight_features import raw_files
from flight_features.columns import FEATURES
from infra.existing_cluster_names import OBJECT_STORE, OBJECT_STORE_PORT

from .airflow_client import Airflow, ForwardedPort
from .stack import PLATFORM_NAMESPACE, get, wait_until

RUN_SECONDS = 600
DAGS = {"flight_features", "flight_model", "flight_scores", "flight_monitor"}
JANUARY = {"first": "2013-01-01", "last": "2013-01-31"}
LAST_DAY = {"first": "2013-01-31", "last": "2013-01-31"}
# A week to evaluate on, and a week to choose on.
MODEL = {"as_of": "2013-02-01", "evaluation_days": 7, "minimum_auc": 0.55}
MORNING = {**dict.fromkeys(FEATURES), "minute_of_day": 360, "day_of_week": 2, "late_share_carrier": 0.05}
EVENING = {**dict.fromkeys(FEATURES), "minute_of_day": 1200, "day_of_week": 5, "late_share_carrier": 0.4}


def triggered(airflow: Airflow, dag_id: str) -> str:
    """Return the newest run of a DAG that an asset has started."""

    def found() -> str | None:
        runs = airflow.get(f"dags/{dag_id}/dagRuns", run_type="asset_triggered", order_by="-id", limit=1)["dag_runs"]
        return str(runs[0]["dag_run_id"]) if runs else None

    return str(wait_until(found, f"a run of {dag_id}", 120))


def published(airflow: Airflow, run: str) -> Any:
    """Return what a run of flight_features has published."""
    return airflow.get(f"dags/flight_features/dagRuns/{run}/taskInstances/publish/xcomEntries/return_value")["value"]


@pytest.fixture(scope="module")
def data() -> Iterator[Any]:
    """Yield the data bucket."""
    [secret] = get("secrets", "--field-selector", "metadata.name=object-store")["items"]
    keys = {name.lower(): base64.b64decode(value).decode() for name, value in secret["data"].items()}
    with ForwardedPort(OBJECT_STORE, OBJECT_STORE_PORT, PLATFORM_NAMESPACE) as url:
        yield boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **keys).Bucket("airflow-data")


@pytest.fixture(scope="module")
def features(airflow: Airflow) -> Any:
    """Publish the features of a month."""
    wait_until(lambda: airflow.dags() >= DAGS, "the DAGs")
    run = airflow.trigger("flight_features", JANUARY)
    assert airflow.finish("flight_features", run, RUN_SECONDS) == "success"
    return published(airflow, run)


@pytest.fixture(scope="module")
def rejected(airflow: Airflow, features: Any) -> str:
    """Reject a model, and return the run."""
    run = airflow.trigger("flight_model", MODEL)
    airflow.answer("flight_model", run, "approval", "Reject", RUN_SECONDS)
    assert airflow.finish("flight_model", run, RUN_SECONDS) == "success"
    return run


@pytest.fixture(scope="module")
def january(airflow: Airflow, rejected: str) -> None:
    """Approve the model when asked again, and score the month."""
    airflow.clear("flight_model", rejected, "approval")
    airflow.answer("flight_model", rejected, "approval", "Approve", RUN_SECONDS)
    assert airflow.finish("flight_model", rejected, RUN_SECONDS) == "success"
    run = airflow.trigger("flight_scores", JANUARY)
    assert airflow.finish("flight_scores", run, RUN_SECONDS) == "success"


def test_a_rejected_model_is_not_registered_and_its_card_names_who_rejected_it(airflow: Airflow, rejected: str) -> None:
    states = {task["task_id"]: task["state"] for task in airflow.tasks("flight_model", rejected)}
    assert {states[task] for task in ("register", "promote", "deploy")} == {"skipped"}
    sentence = "admin rejected the model, so there is still no champion."
    wait_until(lambda: sentence in airflow.log("flight_model", rejected, "card"), "the log of the card", 60)


@pytest.mark.usefixtures("january")
def test_the_scores_of_a_month_start_its_monitoring(airflow: Airflow) -> None:
    run = triggered(airflow, "flight_monitor")
    assert airflow.finish("flight_monitor", run, RUN_SECONDS) == "success"
    measured = airflow.get(f"dags/flight_monitor/dagRuns/{run}/taskInstances/performance/xcomEntries/return_value")
    assert measured["value"]["1"]["outcomes"] == 27_004


@pytest.mark.usefixtures("january")
def test_the_champion_answers_over_its_service() -> None:
    with ForwardedPort("flight-delays", 8080) as url:
        answer = httpx.post(f"{url}/predict", json={"dataframe_records": [MORNING, EVENING]}, timeout=60).json()
    morning, evening = answer["predictions"]
    assert 0 < morning < evening < 1
    assert answer["model_version"] == "1"


@pytest.mark.usefixtures("january")
def test_a_stricter_threshold_requests_a_new_model_which_starts_its_training(airflow: Airflow) -> None:
    run = airflow.trigger("flight_monitor", {"month": "2013-01", "minimum_skill": 0.99})
    assert airflow.finish("flight_monitor", run, RUN_SECONDS) == "success"
    retraining = triggered(airflow, "flight_model")
    # With its default of four weeks to evaluate on, a month of data is not enough.
    assert airflow.finish("flight_model", retraining, RUN_SECONDS) == "failed"
    [freeze] = [task for task in airflow.tasks("flight_model", retraining) if task["task_id"] == "freeze"]
    assert (freeze["state"], freeze["try_number"]) == ("failed", 1)


def test_a_corrupted_day_halts_in_one_try_and_a_month_again_gives_the_same_features(
    airflow: Airflow, features: Any, data: Any
) -> None:
    raw = data.Object(raw_files.key("flights", date.fromisoformat(LAST_DAY["last"])))
    partition = data.Object(f"flight_features/partitions/day={LAST_DAY['last']}/features.parquet")
    content, before = raw.get()["Body"].read(), partition.get()["Body"].read()
    raw.put(Body=content.replace(b",JFK,", b",XYZ,"))
    halted = airflow.trigger("flight_features", LAST_DAY)
    assert airflow.finish("flight_features", halted, RUN_SECONDS) == "failed"
    tasks = {task["task_id"]: (task["state"], task["try_number"]) for task in airflow.tasks("flight_features", halted)}
    assert tasks["check_raw"] == ("failed", 1)
    sentence = "flights of an unknown origin"
    wait_until(lambda: sentence in airflow.log("flight_features", halted, "check_raw"), "the log of the check", 60)
    assert partition.get()["Body"].read() == before

    raw.put(Body=content)
    again = airflow.trigger("flight_features", JANUARY)
    assert airflow.finish("flight_features", again, RUN_SECONDS) == "success"
    assert published(airflow, again) == features
    assert partition.get()["Body"].read() == before
