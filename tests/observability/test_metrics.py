import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow._shared.observability.metrics.metrics_registry import YAML_REGISTRY_PATH

Samples = dict[str, list[tuple[dict[str, str], float]]]

# Labels whose number of values grows with the DAGs of a team, not with the number of runs.
BOUNDED = {
    *("action", "bundle_name", "dag_id", "event_type", "executor", "executor_class_name", "file_name", "file_path"),
    *("hostname", "operator_name", "pool_name", "queue", "return_code", "run_type", "state", "status", "task_id"),
    *("task_type", "transport_type", "worker_name", "prior_state", "operator", "model"),
}
OF_HISTOGRAMS = {"le"}
COUNTS_DOWN = "dag_processing.processes"
# Metrics that Airflow's Kubernetes provider sends without listing them.
UNLISTED = [
    {"name": "kubernetes_executor.pod_creation_batch_size", "type": "gauge"},
    {"name": "kubernetes_executor.pod_creation_batch_duration", "type": "timer"},
]
# Metrics of DAGs.
OF_DAGS = [{"name": f"ml.{name}", "type": "gauge"} for name in ("skill", "minimum_skill")]
SUFFIXES = {"counter": "_total", "gauge": "", "timer": "_seconds_count"}


def registry() -> list[dict[str, Any]]:
    """Return Airflow's list of its metrics, with the names that `send_registry.py` sends."""
    metrics: list[dict[str, Any]] = yaml.safe_load(Path(YAML_REGISTRY_PATH).read_text())["metrics"]
    named = {"job_name": "job", "dag_file": "a_dag_file"}
    return [metric | {"name": metric["name"].format(**named)} for metric in metrics]


def prometheus_name(metric: dict[str, Any]) -> str:
    name = re.sub(r"^(dagrun\.duration)\..*", r"\1", metric["name"])
    return "airflow_" + re.sub(r"[^a-z_]", "_", name) + SUFFIXES[metric["type"]]


def airflow_samples(samples: Samples) -> Samples:
    return {name: found for name, found in samples.items() if name.startswith("airflow_")}


def value(samples: Samples, name: str, **labels: str) -> float:
    [found] = [value for having, value in samples[name] if having == labels]
    return found


@pytest.mark.parametrize("metric", registry(), ids=lambda metric: metric["name"])
def test_every_airflow_metric_is_exported_under_the_name_for_its_type(metric: dict[str, Any], samples: Samples) -> None:
    assert (prometheus_name(metric) in samples) == (metric["name"] != COUNTS_DOWN)


def test_no_other_metrics_are_exported(samples: Samples) -> None:
    names = {re.sub(r"_(bucket|sum)$", "_count", name) for name in airflow_samples(samples)}
    assert names <= {prometheus_name(metric) for metric in registry() + UNLISTED + OF_DAGS}


def test_the_exporter_parses_every_metric(samples: Samples) -> None:
    refused = {
        name: found
        for name, found in samples.items()
        if re.search("statsd_exporter_.*(errors?|conflict|unmapped|dropped|drops)", name)
    }
    assert refused
    assert {name: found for name, found in refused.items() if any(count for _, count in found)} == {}


def test_no_label_identifies_a_single_run(samples: Samples) -> None:
    labels = {label for found in airflow_samples(samples).values() for having, _ in found for label in having}
    assert {"dag_id", "task_id", "pool_name"} < labels
    assert labels - OF_HISTOGRAMS <= BOUNDED


def test_no_metric_name_contains_the_name_of_a_dag_a_task_or_a_pool(samples: Samples) -> None:
    assert [name for name in airflow_samples(samples) if re.search("sample|works|fails|default_pool", name)] == []


def test_durations_are_seconds(samples: Samples) -> None:
    assert value(samples, "airflow_task_duration_seconds_sum", dag_id="sample", task_id="works") == 3.881406
    assert value(samples, "airflow_scheduler_scheduler_loop_duration_seconds_count") == 2
    assert value(samples, "airflow_scheduler_scheduler_loop_duration_seconds_sum") == pytest.approx(3.112750909)


def test_the_parse_time_without_a_unit_is_in_seconds_as_well(samples: Samples) -> None:
    name = "airflow_dag_processing_last_duration_seconds_sum"
    assert value(samples, name, bundle_name="dags-folder", file_name="slow") == 2


def test_the_duration_of_a_run_has_its_final_state(samples: Samples) -> None:
    name = "airflow_dagrun_duration_seconds_count"
    assert value(samples, name, dag_id="sample", run_type="scheduled", state="failed") == 1
    assert value(samples, name, dag_id="a_dag_id", state="success") == 1


@pytest.mark.parametrize(("name", "longest"), [("task_duration", 21600), ("scheduler_scheduler_loop_duration", 30)])
def test_histogram_buckets_cover_the_values_that_they_measure(samples: Samples, name: str, longest: float) -> None:
    bounds = {float(labels["le"]) for labels, _ in samples[f"airflow_{name}_seconds_bucket"]}
    assert max(bounds - {float("inf")}) == longest


def test_only_gauges_expire_when_they_are_no_longer_reported_except_those_of_dags(
    samples_after_silence: Samples,
) -> None:
    names = airflow_samples(samples_after_silence)
    assert "airflow_scheduler_heartbeat_total" in names
    remaining = {name for name in names if not re.search("_(total|bucket|sum|count)$", name)}
    assert remaining == {prometheus_name(metric) for metric in OF_DAGS}


def test_every_mapping_is_the_first_for_a_metric_of_airflow(mappings: list[dict[str, Any]]) -> None:
    kinds = {"counter": "counter", "gauge": "gauge", "timer": "observer"}

    def first(metric: dict[str, Any]) -> int:
        return next(
            number
            for number, mapping in enumerate(mappings)
            if re.search(mapping["match"], f"airflow.{metric['name']}")
            and mapping.get("match_metric_type", kinds[metric["type"]]) == kinds[metric["type"]]
        )

    assert {first(metric) for metric in registry() + OF_DAGS} == set(range(len(mappings)))


def test_every_recorded_line_is_a_metric_of_this_airflow_version(recorded: str) -> None:
    names = {re.split("[,:]", line)[0].removeprefix("airflow.") for line in recorded.splitlines()}
    assert names <= {metric["name"] for metric in registry() + UNLISTED + OF_DAGS}
