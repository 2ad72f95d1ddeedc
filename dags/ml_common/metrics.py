"""What DAGs measure, as gauges of Airflow's own metrics: `skill` becomes `airflow_ml_skill` in Prometheus.

Where Airflow sends no metrics, such as on a laptop, nothing is sent. See docs/observability.md.
"""

from collections.abc import Mapping

from airflow.sdk.observability import stats


def send(figures: Mapping[str, float | None], **labels: str) -> None:
    """Send each figure that has a value. Labels have few values: a DAG or a model, but not a run or a version."""
    for name, value in figures.items():
        if value is not None:
            stats.gauge(f"ml.{name}", value, tags=labels)
