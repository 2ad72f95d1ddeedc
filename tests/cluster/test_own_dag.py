"""The example in CONTRIBUTING.md on the cluster: a new DAG with its own image, prefix and model server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from infra.documents import REPOSITORY
from ops.plan.manifests import own_objects
from ops.plan.resources import Recording
from tests import contributing

from .airflow_client import Airflow, ForwardedPort
from .conftest import ready
from .stack import NAMESPACE, STACK, deploy, kubectl, push, wait_until

RUN_SECONDS = 300


@pytest.fixture(scope="module")
def example(
    airflow: Airflow, recording: Recording, clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Follow CONTRIBUTING.md in a copy of the repository, and deploy it."""
    root = tmp_path_factory.mktemp("repository")
    contributing.copy(root)
    contributing.follow(root)
    (root / ".venv").symlink_to(REPOSITORY / ".venv")
    contributing.run(root, "-m", "ops.environments", "pin")
    contributing.run(root, "-m", "ops", "images", STACK)
    changed = contributing.recorded(root, STACK)
    deploy(changed)
    dag = clone / "dags" / contributing.EXAMPLE
    shutil.copytree(root / "dags" / contributing.EXAMPLE, dag)
    push(clone, {})
    wait_until(lambda: ready(NAMESPACE), "Airflow", seconds=600)
    yield
    shutil.rmtree(dag)
    push(clone, {})
    kubectl("delete", "deployment,service", contributing.EXAMPLE, "-n", NAMESPACE, "--ignore-not-found")
    before = {name_of(item) for item in own_objects(recording)}
    added = [item for item in own_objects(changed) if name_of(item) not in before]
    kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(added))


def name_of(item: dict[str, object]) -> tuple[object, ...]:
    metadata = item["metadata"]
    assert isinstance(metadata, dict)
    return item["kind"], metadata.get("namespace"), metadata["name"]


@pytest.mark.usefixtures("example")
def test_the_dag_of_the_example_is_green(airflow: Airflow) -> None:
    wait_until(lambda: contributing.EXAMPLE in airflow.dags(), "the DAG")
    assert airflow.import_errors() == {}
    started = airflow.trigger(contributing.EXAMPLE)
    state = airflow.finish(contributing.EXAMPLE, started, seconds=RUN_SECONDS)
    tasks = {task["task_id"]: task["state"] for task in airflow.tasks(contributing.EXAMPLE, started)}
    assert (state, tasks) == (
        "success",
        dict.fromkeys(("find_tables", "summarize", "train", "deploy"), "success"),
    )


@pytest.mark.usefixtures("example")
def test_the_model_of_the_example_answers_over_its_service() -> None:
    rows = {"dataframe_records": [{"calls": 9}, {"calls": 0}]}
    with ForwardedPort(contributing.EXAMPLE, 8080) as url:
        answer = httpx.post(f"{url}/predict", json=rows, timeout=60)
        assert answer.json() == {"predictions": [1, 0], "model_version": "1"}
        metrics = httpx.get(f"{url}/metrics", timeout=30).text
    assert 'serving_model_info{model="churn",version="1"} 1.0' in metrics
