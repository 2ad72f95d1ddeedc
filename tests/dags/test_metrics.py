"""What DAGs measure arrives at a StatsD server with the settings of the clusters."""

from ml_common import metrics
from tests.dags.conftest import Gauges


def test_a_figure_is_a_gauge_with_its_labels(gauges: Gauges) -> None:
    metrics.send({"skill": 0.25, "outcomes": 500}, dag_id="flight_monitor", model="flight_delays")
    labels = "dag_id=flight_monitor,model=flight_delays"
    assert gauges() == {f"airflow.ml.skill,{labels}": 0.25, f"airflow.ml.outcomes,{labels}": 500}


def test_a_figure_without_a_value_is_not_sent(gauges: Gauges) -> None:
    metrics.send({"skill": None, "auc": 0.7}, model="flight_delays")
    assert gauges() == {"airflow.ml.auc,model=flight_delays": 0.7}


def test_without_a_server_nothing_is_sent() -> None:
    metrics.send({"skill": 0.25}, model="flight_delays")
