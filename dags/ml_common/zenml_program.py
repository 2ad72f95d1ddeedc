"""What runs in ZenML's environment, which has no Airflow: see ml_common/zenml_pipelines.py.

Reads a command with its arguments from standard input, and answers `{"result": ...}`, or `{"error": ...}` for a failure
that a retry cannot fix. Any other failure ends with a traceback and a non-zero exit code.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict
from uuid import UUID

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse
    from zenml.pipelines.pipeline_definition import Pipeline

MODULE = "pipeline"
# Names of tasks that are not steps.
RESERVED = ("start_run", "finish_run")
# A folder of images/. ZenML only records it: Airflow chooses the image.
IMAGE = "zenml"
# ZenML refuses more attempts of a step in one run; Airflow decides how many there are.
MAX_ATTEMPTS = 1000
SETTINGS = {
    "ZENML_ANALYTICS_OPT_IN": "false",
    "ZENML_LOGGING_COLORS_DISABLED": "true",
    "ZENML_ENABLE_RICH_TRACEBACK": "false",
    "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
    "ZENML_DISABLE_CLIENT_SERVER_MISMATCH_WARNING": "true",
    # Otherwise the client stores its token in a file.
    "DISABLE_CREDENTIALS_DISK_CACHING": "true",
}


class Server(TypedDict):
    """The ZenML server that records a run, and the name of the stack there."""

    url: str
    api_key: str
    stack: str


class Step(TypedDict):
    """A step as a task: the steps before it, and what its settings ask of Airflow and of the pod."""

    upstream: list[str]
    cpu_count: NotRequired[float]
    gpu_count: NotRequired[int]
    memory_gib: NotRequired[float]
    retries: NotRequired[int]
    retry_delay_seconds: NotRequired[int]
    retry_backoff: NotRequired[int]
    operator_args: NotRequired[dict[str, Any]]


class Graph(TypedDict):
    """A pipeline as a DAG. `parameters` are the JSON schemas of its parameters, with their defaults."""

    parameters: dict[str, dict[str, Any]]
    steps: dict[str, Step]


class Run(TypedDict):
    """A run in ZenML: its ID, its snapshot of the pipeline, and the ID of the run in Airflow."""

    run: str
    snapshot: str
    airflow_run: str


class PipelineError(Exception):
    """The pipeline must be corrected, or written as a graph again."""


def graph(dag_id: str) -> Graph:
    """Return the graph of a DAG's pipeline with its default parameters, without a server.

    Raises:
        PipelineError: The pipeline cannot become a DAG.
    """
    pipeline = _pipeline(dag_id)
    parameters = _parameters(pipeline)
    pipeline.prepare(**{name: each.get("default") for name, each in parameters.items()})
    return Graph(parameters=parameters, steps=_steps(pipeline))


def start(dag_id: str, airflow_run: str, attempt: int, parameters: dict[str, Any], steps: dict[str, Step]) -> Run:
    """Register the pipeline and a run of it with the server.

    Raises:
        PipelineError: With these parameters, the pipeline has other steps than its DAG.
    """
    from zenml.config import DockerSettings
    from zenml.pipelines.run_utils import create_placeholder_run

    pipeline = _pipeline(dag_id)
    pipeline.prepare(**parameters)
    if _order(_steps(pipeline)) != _order(steps):
        raise PipelineError(
            f"With these parameters, the steps of {dag_id} are not those of its DAG: run `make zenml` and commit the "
            "graph, or start a run with other parameters."
        )
    attempts = {name: {"retry": {"max_retries": MAX_ATTEMPTS}} for name in steps}
    snapshot = pipeline._create_snapshot(
        run_name=f"{dag_id} {airflow_run} {attempt}",
        settings={
            "docker": DockerSettings(skip_build=True, parent_image=IMAGE, allow_download_from_artifact_store=False)
        },
        step_configurations=attempts,
    )
    run = create_placeholder_run(snapshot=snapshot, orchestrator_run_id=airflow_run)
    return Run(run=str(run.id), snapshot=str(snapshot.id), airflow_run=airflow_run)


def step(run: Run, name: str) -> str:
    """Run a step; return its status."""
    from zenml.client import Client
    from zenml.execution.step.utils import launch_step
    from zenml.integrations.registry import integration_registry

    os.environ["ZENML_AIRFLOW_RUN_ID"] = run["airflow_run"]
    before = _statuses(run).get(name)
    if before in ("completed", "cached"):
        print(f"The step is {before} in this run, so it does not run again: start another run.")  # noqa: T201
        return before
    snapshot = Client().zen_store.get_snapshot(snapshot_id=UUID(run["snapshot"]), step_configuration_filter=[name])
    integration_registry.activate_integrations()
    done = launch_step(
        snapshot=snapshot, step=snapshot.step_configurations[name], orchestrator_run_id=run["airflow_run"]
    )
    return str(done.status.value)


def finish(run: Run) -> dict[str, Any]:
    """End a run in which steps failed; return its ID in Airflow, its status and those of its steps."""
    from zenml.enums import ExecutionStatus
    from zenml.orchestrators.publish_utils import publish_failed_pipeline_run

    found = _run(run)
    if not found.status.is_finished:
        # ZenML waits for the next attempt of a step.
        publish_failed_pipeline_run(found.id)
        found = _run(run)
    return {
        "run": str(found.id),
        "airflow_run": found.orchestrator_run_id,
        "status": ExecutionStatus(found.status).value,
        "steps": _statuses(run),
    }


COMMANDS: Mapping[str, Callable[..., Any]] = {"graph": graph, "start": start, "step": step, "finish": finish}


def _pipeline(dag_id: str) -> "Pipeline":
    from zenml.pipelines.pipeline_definition import Pipeline

    module = import_module(f"{dag_id}.{MODULE}")
    found = {id(value): value for value in vars(module).values() if isinstance(value, Pipeline)}
    if len(found) != 1:
        raise PipelineError(f"dags/{dag_id}/{MODULE}.py has {len(found)} pipelines: define exactly one.")
    [pipeline] = found.values()
    if pipeline.is_dynamic:
        raise PipelineError(f"The pipeline of {dag_id} is dynamic, so its steps are unknown: define a static one.")
    return pipeline


def _parameters(pipeline: "Pipeline") -> dict[str, dict[str, Any]]:
    import inspect

    from pydantic import TypeAdapter

    found = {}
    for name, parameter in inspect.signature(pipeline.entrypoint).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            raise PipelineError(f"The parameter {name} of the pipeline {pipeline.name} has no default: add one.")
        schema = TypeAdapter(parameter.annotation).json_schema()
        types = [each.get("type") for each in schema.get("anyOf", [])]
        found[name] = {**({"type": types} if types and all(types) else schema), "default": parameter.default}
    return found


def _steps(pipeline: "Pipeline") -> dict[str, Step]:
    found = {name: _step(pipeline, name) for name in pipeline.invocations}
    if reserved := found.keys() & set(RESERVED):
        raise PipelineError(f"A step of {pipeline.name} has the name {min(reserved)}: give it another `id`.")
    return found


def _step(pipeline: "Pipeline", name: str) -> Step:
    from zenml.config import ResourceSettings

    invocation = pipeline.invocations[name]
    settings = {**pipeline.configuration.settings, **invocation.step.configuration.settings}
    found = Step(upstream=sorted(invocation.upstream_steps))
    if "resources" in settings:
        resources = ResourceSettings.model_validate(settings["resources"].model_dump(exclude_unset=True))
        if resources.cpu_count is not None:
            found["cpu_count"] = resources.cpu_count
        if resources.gpu_count is not None:
            found["gpu_count"] = resources.gpu_count
        if resources.memory is not None:
            found["memory_gib"] = resources.get_memory("GiB")
    if retry := invocation.step.configuration.retry or pipeline.configuration.retry:
        found["retries"] = retry.max_retries
        found["retry_delay_seconds"] = retry.delay
        found["retry_backoff"] = retry.backoff
    for key in ("orchestrator", "orchestrator.airflow"):
        if arguments := settings.get(key) and settings[key].model_dump().get("operator_args"):
            found["operator_args"] = arguments
    return found


def _order(steps: Mapping[str, Step]) -> dict[str, list[str]]:
    return {name: sorted(each["upstream"]) for name, each in steps.items()}


def _run(run: Run) -> "PipelineRunResponse":
    from zenml.client import Client

    return Client().get_pipeline_run(run["run"])


def _statuses(run: Run) -> dict[str, str]:
    from zenml.client import Client

    found = Client().list_run_steps(pipeline_run_id=run["run"], exclude_retried=True, size=1000)
    return {each.name: str(each.status.value) for each in found.items}


@contextmanager
def _environment(server: Server | None) -> Iterator[None]:
    """Prepare what ZenML reads when it is imported; what it writes is deleted at the end."""
    folder = Path(__file__).parents[1]
    sys.path.insert(0, str(folder))
    with TemporaryDirectory() as temporary:
        os.environ |= {**SETTINGS, "HOME": temporary, "ZENML_CONFIG_PATH": temporary}
        os.environ["ZENML_CUSTOM_SOURCE_ROOT"] = str(folder)
        os.chdir(temporary)
        if server:
            os.environ |= {"ZENML_STORE_URL": server["url"], "ZENML_STORE_API_KEY": server["api_key"]}
            from zenml.client import Client

            Client().activate_stack(server["stack"])
        yield


def main() -> None:
    """Run a command."""
    # What ZenML and steps print is not the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    command = json.load(sys.stdin)
    with _environment(command.get("server")):
        from ml_common.errors import PermanentError

        try:
            result = {"result": COMMANDS[command["command"]](**command["arguments"])}
        except (PipelineError, PermanentError) as error:
            result = {"error": str(error)}
    json.dump(result, answer)
    answer.close()


if __name__ == "__main__":
    main()
