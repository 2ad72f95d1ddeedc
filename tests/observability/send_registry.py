"""Send one value of every metric in Airflow's registry with Airflow's own client and settings."""

import re
from datetime import timedelta

import pendulum
from airflow._shared.observability.metrics import stats
from airflow._shared.observability.metrics.metrics_registry import YAML_REGISTRY_PATH, read_metrics_yaml
from airflow.configuration import conf
from airflow.dag_processing.manager import process_parse_results
from airflow.observability.metrics import stats_utils

# Parts of a few metric names that would otherwise be tags.
NAMED = {"job_name": "job", "dag_file": "a_dag_file"}
# Values of Airflow's tags that identify a single run.
UNBOUNDED = {"run_id": "manual__1", "dagrun_id": "manual__1", "job_id": "7"}

stats.initialize(
    factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on")
)
for metric in read_metrics_yaml(str(YAML_REGISTRY_PATH)):
    described = re.search(r"Metric with ([a-z_, ]+) tagging", metric["description"])
    tagged = re.split(", | and ", described[1]) if described else []
    name = metric["name"].format(**NAMED)
    tags = {tag: f"a_{tag}" for tag in {*tagged, *metric["name_variables"]} - NAMED.keys()} | UNBOUNDED
    if metric["type"] == "counter":
        stats.incr(name, tags=tags)
    elif metric["type"] == "gauge":
        stats.gauge(name, 1, tags=tags)
    else:
        stats.timing(name, timedelta(seconds=3), tags=tags)

stats.decr("dag_processing.processes", tags={"action": "stop"})
process_parse_results(
    run_duration=2.0,
    finish_time=pendulum.now("UTC"),
    run_count=0,
    bundle_name="dags-folder",
    parsing_result=None,
    relative_fileloc="slow.py",
)
