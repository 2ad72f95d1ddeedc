"""ZenML pipelines as DAGs, as Airflow sees them: from the graph, without ZenML."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from ml_common import tools, zenml_pipelines
from ml_common.errors import PermanentError, ServiceUnavailableError

GRAPH = {
    "parameters": {
        "first": {"type": "string", "default": "2013-01-01"},
        "as_of": {"type": ["string", "null"], "default": None},
    },
    "steps": {
        "load": {"upstream": []},
        "train": {"upstream": ["load"], "cpu_count": 3, "gpu_count": 2, "memory_gib": 8.0},
        "evaluate": {
            "upstream": ["load", "train"],
            "memory_gib": 4.0,
            "retries": 5,
            "retry_delay_seconds": 7,
            "retry_backoff": 1,
            "operator_args": {"pool": "evaluations"},
        },
    },
}
Make = Callable[[], DAG]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make the DAG of the graph in a folder `churn`."""
    folder = tmp_path / "churn"
    folder.mkdir()
    (folder / "pipeline.json").write_text(json.dumps(GRAPH))
    (folder / "dag.yaml").write_text("{image: zenml, gpus: 2}")
    return lambda: zenml_pipelines.dag(str(folder / "churn_dag.py"), doc_md="A runbook.")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster with GPUs, as the dag-processor sees it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("ZENML_IMAGE", "zenml:1")
    monkeypatch.setenv("NODE_POOLS", json.dumps({"cpu": [], "gpu": ["nvidia.com/gpu"]}))


def test_steps_follow_each_other_between_the_start_and_the_end_of_the_run(make: Make) -> None:
    tasks = {task.task_id: task.downstream_task_ids for task in make().tasks}
    assert tasks == {
        "start_run": {"load", "train", "evaluate", "finish_run"},
        "load": {"train", "evaluate", "finish_run"},
        "train": {"evaluate", "finish_run"},
        "evaluate": {"finish_run"},
        "finish_run": set(),
    }


def test_the_end_of_the_run_is_recorded_after_a_failure_and_does_not_hide_it(make: Make) -> None:
    finish = make().get_task("finish_run")
    assert finish.is_teardown
    assert finish.trigger_rule == "all_done_setup_success"
    assert not finish.on_failure_fail_dagrun


def test_parameters_of_the_pipeline_are_params(make: Make) -> None:
    params = make().params
    assert {name: params.get_param(name).value for name in params} == {"first": "2013-01-01", "as_of": None}
    assert params.get_param("as_of").schema == {"type": ["string", "null"]}


def resources(dag: DAG, task: str) -> Any:
    spec = dag.get_task(task).executor_config["pod_override"].spec
    [container] = spec.containers
    assert container.image == "zenml:1"
    return container.resources.requests, container.resources.limits, spec.node_selector


@pytest.mark.usefixtures("cluster")
def test_a_step_gets_a_pod_with_the_resources_of_its_settings(make: Make) -> None:
    dag = make()
    gpus = {"memory": "8192Mi", "nvidia.com/gpu": "2"}
    assert resources(dag, "train") == ({"cpu": "3000m", "memory": "8192Mi"}, gpus, {"karpenter.sh/nodepool": "gpu"})
    assert resources(dag, "evaluate") == ({"cpu": "250m", "memory": "4096Mi"}, {"memory": "4096Mi"}, None)
    assert resources(dag, "load") == resources(dag, "start_run")


def test_more_gpus_than_the_dag_declares_are_one_sentence(make: Make, tmp_path: Path) -> None:
    (tmp_path / "churn" / "dag.yaml").write_text("{image: zenml, gpus: 1}")
    with pytest.raises(ValueError, match=r"^a step has gpu_count=2: set `gpus: 2` in the dag.yaml of this DAG$"):
        make()


def test_a_step_is_retried_as_its_settings_say(make: Make) -> None:
    dag = make()
    evaluate = dag.get_task("evaluate")
    assert (evaluate.retries, evaluate.retry_delay, evaluate.pool) == (5, timedelta(seconds=7), "evaluations")
    assert dag.get_task("load").retries == 3


def test_without_the_connection_a_task_says_what_to_do() -> None:
    sentence = r"^The Airflow connection `zenml` is not defined: run `make up ZENML=1` on a laptop; docs/zenml.md"
    with pytest.raises(PermanentError, match=sentence):
        zenml_pipelines.run("finish", run={})


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a program that runs instead of ZenML's."""
    import sys

    monkeypatch.setenv("ZENML_PYTHON", sys.executable)
    connection = {"conn_type": "http", "host": "http://127.0.0.1:1", "password": "key", "extra": {"stack": "airflow"}}
    monkeypatch.setenv("AIRFLOW_CONN_ZENML", json.dumps(connection))
    monkeypatch.setattr(zenml_pipelines, "PROGRAM", tmp_path / "program.py")
    return tmp_path / "program.py"


def test_a_program_gets_the_key_on_standard_input_and_no_setting_of_airflow(program: Path) -> None:
    program.write_text(
        "import json, os, sys; json.dump({'result': [json.load(sys.stdin), dict(os.environ)]}, sys.stdout)"
    )
    command, variables = zenml_pipelines.run("step", name="load")
    assert command == {
        "command": "step",
        "arguments": {"name": "load"},
        "server": {"url": "http://127.0.0.1:1", "api_key": "key", "stack": "airflow"},
    }
    assert variables["AWS_ACCESS_KEY_ID"] == "test"
    assert not [name for name in variables if "AIRFLOW" in name]


def test_a_mistake_in_the_pipeline_is_not_retried_and_a_failed_step_is(program: Path) -> None:
    program.write_text('print(\'{"error": "No such day."}\')')
    with pytest.raises(PermanentError, match=r"^No such day\.$"):
        zenml_pipelines.run("step")
    program.write_text("raise SystemExit(1)")
    with pytest.raises(ServiceUnavailableError, match=r"^zenml failed with exit code 1: see its output in this log\.$"):
        zenml_pipelines.run("step")


def test_a_program_that_is_interrupted_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal
    import sys
    import time

    program = tmp_path / "program.py"
    program.write_text("import sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(60)")
    monkeypatch.setenv("SLOW_PYTHON", sys.executable)

    def interrupt(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(2)
    started = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            tools.run("slow", program, None)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 30
