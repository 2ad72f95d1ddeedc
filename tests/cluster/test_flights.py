"""The DAGs of flights on the cluster, with a month of data: features, a model, its scores, and the monitor."""

import httpx
import pytest

from flight_features.columns import FEATURES

from .airflow_client import Airflow, ForwardedPort
from .stack import wait_until

RUN_SECONDS = 600
DAGS = {"flight_features", "flight_model", "flight_scores", "flight_monitor"}
JANUARY = {"first": "2013-01-01", "last": "2013-01-31"}
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


@pytest.fixture(scope="module")
def january(airflow: Airflow) -> None:
    """Publish the features of a month, approve a model of them, and score the month."""
    wait_until(lambda: airflow.dags() >= DAGS, "the DAGs")
    features = airflow.trigger("flight_features", JANUARY)
    assert airflow.finish("flight_features", features, RUN_SECONDS) == "success"
    model = airflow.trigger("flight_model", MODEL)
    airflow.answer("flight_model", model, "approval", "Approve", RUN_SECONDS)
    assert airflow.finish("flight_model", model, RUN_SECONDS) == "success"
    scores = airflow.trigger("flight_scores", JANUARY)
    assert airflow.finish("flight_scores", scores, RUN_SECONDS) == "success"


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
