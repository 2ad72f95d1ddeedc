"""ZenML pipelines as DAGs: each step is a task, in a pod with the resources of the step's settings.

`zenml_pipelines.dag(__file__, doc_md=__doc__)` in a DAG file makes the DAG of the pipeline in the `pipeline.py` next to
it. `make zenml` writes the graph of the pipeline, which Airflow reads at parse time: ZenML itself is in a separate
environment, see `ml_common.tools`. The Airflow connection `zenml` has the address of the ZenML server as its host, an
API key as its password, and the name of the stack in its extra field.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from ml_common import pods
from ml_common.defaults import DEFAULT_ARGS

CONNECTION = "zenml"
GRAPH = "pipeline.json"
PROGRAM = Path(__file__).with_name("zenml_program.py")
# Settings and secrets of Airflow, and of the Python environment of its tasks, which are not for steps.
WITHHELD = ("AIRFLOW", "_AIRFLOW", "PYTHON", "VIRTUAL_ENV")


def dag(dag_file: str, *, doc_md: str | None, schedule: Any = None, tags: tuple[str, ...] = ("zenml",)) -> DAG:
    """Return the DAG of the pipeline next to a DAG file; the parameters of the pipeline are its Params."""
    folder = Path(dag_file).parent
    graph = json.loads((folder / GRAPH).read_text())
    here = pods.of(dag_file)
    with DAG(
        dag_id=folder.name,
        schedule=schedule,
        catchup=False,
        max_active_runs=4,
        dagrun_timeout=timedelta(days=1),
        default_args={**DEFAULT_ARGS, "executor_config": here.on_cpu()},
        params={
            name: Param(schema["default"], **{key: value for key, value in schema.items() if key != "default"})
            for name, schema in graph["parameters"].items()
        },
        tags=list(tags),
        doc_md=doc_md,
    ) as found:
        _wire(graph["steps"], here)
    return found


def _wire(steps: Mapping[str, Any], here: pods.Pods) -> None:
    @task
    def start_run(params: Any = None, dag_run: Any = None, ti: Any = None) -> Any:
        return run(
            "start",
            dag_id=dag_run.dag_id,
            airflow_run=dag_run.run_id,
            attempt=ti.try_number,
            parameters=dict(params),
            steps=steps,
        )

    # Does not decide whether the run in Airflow succeeds.
    @task
    def finish_run(started: Any) -> Any:
        return run("finish", run=started) if started else None

    started = start_run()
    finished = finish_run(started).as_teardown()
    tasks: dict[str, Any] = {}
    for name, step in steps.items():
        tasks[name] = task(task_id=name, **_arguments(step, here))(run_step)(started, name)
        started >> tasks[name] >> finished
        for before in step["upstream"]:
            tasks[before] >> tasks[name]


def run_step(started: Any, step: str) -> Any:
    """Run a step of the run that `start_run` returned; return its status."""
    return run("step", run=started, name=step)


def _arguments(step: Mapping[str, Any], here: pods.Pods) -> dict[str, Any]:
    """Return the arguments of a task: its retries, its pod, and `operator_args` of AirflowOrchestratorSettings."""
    retry = {}
    if "retries" in step:
        retry = {
            "retries": step["retries"],
            "retry_delay": timedelta(seconds=step["retry_delay_seconds"]),
            "retry_exponential_backoff": step["retry_backoff"],
        }
    return {"executor_config": _pod(step, here), **retry, **step.get("operator_args", {})}


def _pod(step: Mapping[str, Any], here: pods.Pods) -> pods.ExecutorConfig:
    gpus = step.get("gpu_count", 0)
    if gpus > here.gpus:
        raise ValueError(f"a step has gpu_count={gpus}: set `gpus: {gpus}` in the dag.yaml of this DAG")

    def size(default: pods.Size) -> pods.Size:
        return pods.Size(step.get("cpu_count", default.cores), step.get("memory_gib", default.memory_gib))

    if gpus:
        return dataclasses.replace(here, gpus=gpus).on_gpu(size(pods.GPU), instead=size(pods.CPU))
    return here.on_cpu(size(pods.CPU))


def run(command: str, **arguments: Any) -> Any:
    """Run a command of zenml_program.py, logged in to the server of the connection `zenml`.

    Raises:
        PermanentError: The connection or ZenML's environment is missing, or the pipeline must be corrected.
        ServiceUnavailableError: The step failed, or the server does not answer.
    """
    from ml_common import tools
    from ml_common.errors import PermanentError, ServiceUnavailableError

    answer = tools.run(
        "zenml",
        PROGRAM,
        {"command": command, "arguments": arguments, "server": _server()},
        {name: value for name, value in os.environ.items() if not name.startswith(WITHHELD)},
        ServiceUnavailableError,
    )
    if "error" in answer:
        raise PermanentError(answer["error"])
    return answer["result"]


def _server() -> dict[str, str]:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from ml_common.errors import PermanentError

    try:
        found = Connection.get(CONNECTION)
    except AirflowNotFoundException as error:
        raise PermanentError(
            f"The Airflow connection `{CONNECTION}` is not defined: run `make up ZENML=1` on a laptop; docs/zenml.md "
            "describes it for clusters."
        ) from error
    return {"url": found.host, "api_key": found.password, "stack": found.extra_dejson["stack"]}
