"""`make zenml`: the graphs of ZenML pipelines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.dags.zenml_graphs import GRAPH, graph_text, pipelines, write
from ops.environments import interpreter

PIPELINE = """
from zenml import pipeline, step
from zenml.config import ResourceSettings
from zenml.config.retry_config import StepRetryConfig
from zenml.integrations.airflow.flavors.airflow_orchestrator_flavor import AirflowOrchestratorSettings


@step
def load(first: str, as_of: str | None) -> int:
    return 1


@step(
    settings={
        "resources": ResourceSettings(cpu_count=3, gpu_count=2, memory="8GiB"),
        "orchestrator": AirflowOrchestratorSettings(operator_args={"pool": "training"}),
    },
    retry=StepRetryConfig(max_retries=5, delay=7, backoff=2),
)
def train(flights: int, seed: int) -> int:
    return flights + seed


@pipeline
def churn(first: str = "2013-01-01", as_of: str | None = None, seeds: int = 2) -> None:
    flights = load(first, as_of)
    for seed in range(seeds):
        train(flights, seed, id=f"train_{seed}")
"""
TRAIN = {
    "upstream": ["load"],
    "cpu_count": 3.0,
    "gpu_count": 2,
    "memory_gib": 8.0,
    "retries": 5,
    "retry_delay_seconds": 7,
    "retry_backoff": 2,
    "operator_args": {"pool": "training"},
}
ONE_STEP = """
from zenml import pipeline, step


@step
def {step}() -> int:
    return 1


@pipeline{options}
def {name}({parameters}) -> None:
    {step}()
"""
MISTAKES = {
    "two": (
        ONE_STEP.format(step="load", options="", name="a", parameters="") + "b = a.copy()",
        "dags/two/pipeline.py has 2 pipelines: define exactly one.",
    ),
    "moving": (
        ONE_STEP.format(step="load", options="(dynamic=True)", name="moving", parameters=""),
        "The pipeline of moving is dynamic, so its steps are unknown: define a static one.",
    ),
    "required": (
        ONE_STEP.format(step="load", options="", name="required", parameters="first: str"),
        "The parameter first of the pipeline required has no default: add one.",
    ),
    "reserved": (
        ONE_STEP.format(step="start_run", options="", name="reserved", parameters=""),
        "A step of reserved has the name start_run: give it another `id`.",
    ),
}
# Compiles several pipelines in one process, because importing ZenML takes seconds.
ERRORS = """
import json, sys
sys.path.insert(0, sys.argv[1] + "/ml_common")
sys.path.insert(0, sys.argv[1])
import zenml_program

def error(dag_id):
    try:
        zenml_program.graph(dag_id)
    except zenml_program.PipelineError as error:
        return str(error)

print(json.dumps({dag_id: error(dag_id) for dag_id in sys.argv[2:]}))
"""


def new_pipeline(root: Path, dag_id: str, text: str) -> Path:
    """Write a pipeline into a repository with the modules that DAGs share."""
    folder = root / "dags" / dag_id
    folder.mkdir(parents=True)
    (folder / "pipeline.py").write_text(text)
    shared = root / "dags" / "ml_common"
    if not shared.exists():
        shared.symlink_to(REPOSITORY / "dags" / "ml_common")
    return folder


@pytest.mark.parametrize("folder", pipelines(), ids=lambda folder: folder.name)
def test_the_graph_in_the_repository_is_that_of_the_pipeline(folder: Path) -> None:
    assert (folder / GRAPH).read_text() == graph_text(folder), "run `make zenml`"


def test_a_new_pipeline_becomes_a_dag_with_the_settings_of_its_steps(tmp_path: Path) -> None:
    folder = new_pipeline(tmp_path, "churn", PIPELINE)
    assert {file.name for file in write(folder)} == {GRAPH, "__init__.py", "churn_dag.py", "dag.yaml"}
    assert json.loads((folder / GRAPH).read_text()) == {
        "parameters": {
            "first": {"type": "string", "default": "2013-01-01"},
            "as_of": {"type": ["string", "null"], "default": None},
            "seeds": {"type": "integer", "default": 2},
        },
        "steps": {"load": {"upstream": []}, "train_0": TRAIN, "train_1": TRAIN},
    }
    with (folder / "dag.yaml").open("a") as declaration:
        declaration.write("gpus: 2\n")
    program = "from churn.churn_dag import dag; print(*sorted(dag.task_ids)); assert '| train_1 | ' in dag.doc_md"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "dags"), "AIRFLOW_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["finish_run load start_run train_0 train_1"], done.stderr


def test_a_pipeline_that_cannot_become_a_dag_is_one_sentence(tmp_path: Path) -> None:
    for dag_id, (text, _) in MISTAKES.items():
        new_pipeline(tmp_path, dag_id, text)
    done = subprocess.run(
        [interpreter("zenml"), "-c", ERRORS, tmp_path / "dags", *MISTAKES],
        env={"HOME": str(tmp_path), "ZENML_CONFIG_PATH": str(tmp_path), "ZENML_ANALYTICS_OPT_IN": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {dag_id: sentence for dag_id, (_, sentence) in MISTAKES.items()}


def test_a_pipeline_that_cannot_be_imported_is_named_and_its_graph_stays(tmp_path: Path) -> None:
    folder = new_pipeline(tmp_path, "broken", "1 / 0")
    (folder / GRAPH).write_text("before")
    with pytest.raises(OperationError, match=r"^dags/broken/pipeline.py cannot be compiled: correct it, then rerun"):
        write(folder)
    assert (folder / GRAPH).read_text() == "before"
