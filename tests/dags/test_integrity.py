"""What holds for every DAG of the repository."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).parents[2] / "dags"
DAG_FILES = sorted(DAGS.rglob("*_dag.py"))
HEAVY = {"boto3", "kubernetes", "matplotlib", "mlflow", "numpy", "pandas", "PIL", "safetensors", "sklearn", "torch"}

INSPECT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
def facts(dag):
    DagSerialization.to_dict(dag)
    return {
        "file": dag.fileloc, "doc_md": dag.doc_md, "tags": sorted(dag.tags), "catchup": dag.catchup,
        "timeout": bool(dag.dagrun_timeout), "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "tasks": {task.task_id: {
            "owner": task.owner, "retries": task.retries, "backoff": task.retry_exponential_backoff,
            "timeout": bool(task.execution_timeout), "callback": bool(task.on_failure_callback),
            "retry_policy": bool(task.retry_policy), "downstream": sorted(task.downstream_task_ids),
        } for task in dag.tasks},
    }
print(json.dumps({"errors": bag.import_errors, "parsed": [stat.file for stat in bag.dagbag_stats],
                  "dags": {dag_id: facts(dag) for dag_id, dag in bag.dags.items()}}))
"""

PARSE = """
import json, sys, time
import airflow.sdk
before, started = set(sys.modules), time.perf_counter()
import importlib.util
spec = importlib.util.spec_from_file_location("parsed", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(json.dumps({"seconds": time.perf_counter() - started, "modules": sorted(set(sys.modules))}))
"""


def run(program: str, argument: Path, home: Path) -> Any:
    """The JSON that `program` prints, in an Airflow of its own without database and network."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "PYTHONPATH": str(DAGS),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(INSPECT, DAGS, tmp_path_factory.mktemp("airflow"))


def test_no_dag_has_an_import_error_and_every_dag_file_holds_one(bag: Any) -> None:
    assert bag["errors"] == {}
    assert sorted(dag["file"] for dag in bag["dags"].values()) == [str(path) for path in DAG_FILES]


def test_only_dag_files_are_parsed(bag: Any) -> None:
    assert {path.lstrip("/") for path in bag["parsed"]} == {str(path.relative_to(DAGS)) for path in DAG_FILES}


def test_every_dag_has_a_runbook_tags_and_a_timeout(bag: Any) -> None:
    for dag_id, dag in bag["dags"].items():
        assert dag["doc_md"], dag_id
        assert dag["tags"], dag_id
        assert dag["timeout"], dag_id
        assert dag["catchup"] is False, dag_id


def test_every_param_has_a_type(bag: Any) -> None:
    for dag in bag["dags"].values():
        for name, schema in dag["params"].items():
            assert "type" in schema, name


def test_every_task_has_owner_retries_with_backoff_timeout_and_failure_callback(bag: Any) -> None:
    for dag in bag["dags"].values():
        for task_id, task in dag["tasks"].items():
            assert task["owner"] not in {"", "airflow"}, task_id
            assert task["retries"] >= 1, task_id
            assert task["backoff"] > 1, task_id
            assert task["timeout"], task_id
            assert task["callback"], task_id
            assert task["retry_policy"], task_id


def test_the_tasks_of_image_classifier_follow_each_other(bag: Any) -> None:
    tasks = bag["dags"]["image_classifier"]["tasks"]
    order = ["validate", "preprocess", "train", "evaluate", "gate", "register", "deploy", "smoke_test"]
    for before, after in pairwise(order):
        assert after in tasks[before]["downstream"]
    assert tasks["base_checkpoint"]["downstream"] == ["train"]


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_parsing_imports_nothing_heavy(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parsed = run(PARSE, path, tmp_path)
    with capsys.disabled():
        print(f"\n{path.relative_to(DAGS)} is parsed in {parsed['seconds']:.3f} s")
    assert HEAVY.isdisjoint(parsed["modules"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefix", ""),
        ("prefix", "/images/"),
        ("prefix", "images"),
        ("image_size", 8),
        ("image_size", "32"),
        ("epochs", 0),
        ("learning_rate", 0),
        ("batch_size", 1),
        ("minimum_accuracy", 1.1),
        ("seed", -1),
        ("base_checkpoint", "/weights.pth"),
        ("base_checkpoint", "weights.zip"),
    ],
)
def test_a_wrong_param_is_refused(name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from image_classifier.image_classifier_dag import PARAMS

    with pytest.raises(ParamValidationError):
        PARAMS[name].resolve(value)


@pytest.mark.parametrize(
    ("name", "value"), [("prefix", "a/"), ("prefix", "grüne Äpfel/2/"), ("base_checkpoint", "base/resnet18.pth")]
)
def test_a_right_param_is_taken(name: str, value: object) -> None:
    from image_classifier.image_classifier_dag import PARAMS

    assert PARAMS[name].resolve(value) == value
