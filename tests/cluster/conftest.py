"""Fixtures: a cluster with Airflow."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.airflow.chart import cached_archive
from infra.documents import REPOSITORY
from ops.plan.recording import record
from ops.plan.resources import Recording

from .airflow_client import Airflow
from .stack import NAMESPACE, PLATFORM_NAMESPACE, STACK, deploy, get, project, push, wait_until

FOLDER = Path(__file__).parent
DAGS = FOLDER / "dags"
# Each relies on the ones before it, and the last but one removes everything.
ORDER = (
    "drift",
    "admission",
    "task_admission",
    "node_pools",
    "serving_rollout",
    "airflow",
    "database_cleanup",
    # Before a second model is served: a task that embeds needs a whole core.
    "documents",
    "flights",
    "hostile_dag",
    "component_secrets",
    "disturbances",
    "own_dag",
    "uninstall",
    "releases",
    "engine",
)
WITHOUT_CHART = {"test_drift", "test_serving_rollout"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = [item for item in items if item.path.parent == FOLDER]
    own.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    items[:] = [item for item in items if item not in own] + own
    needed = {
        "KUBECONFIG names no cluster": (bool(os.environ.get("KUBECONFIG")), set[str]()),
        f"the chart is not in the cache: {cached_archive()}": (cached_archive().exists(), WITHOUT_CHART),
        "helm is not on PATH": (shutil.which("helm") is not None, WITHOUT_CHART),
    }
    for reason, (there, exempt) in needed.items():
        for item in own:
            if not there and item.path.stem not in exempt:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Return the recording of the stack, in which a person approves models."""
    return record(STACK, project(tmp_path_factory.mktemp("project"), {"model_approval": "required"}), reveal=True)


@pytest.fixture(scope="session")
def deployed(recording: Recording, clone: Path) -> Recording:
    """Deploy the stack, push the DAGs, and wait until everything is ready."""
    deploy(recording)
    wait_until(lambda: ready(PLATFORM_NAMESPACE), "the platform")
    push(clone, {})
    wait_until(lambda: ready(NAMESPACE), "Airflow", seconds=600)
    return recording


def ready(namespace: str) -> bool:
    """Return whether every workload of a namespace runs its latest revision only."""
    items = get("deployments,statefulsets", namespace=namespace)["items"]
    return bool(items) and all(
        item["status"].get(count, 0) == item["spec"]["replicas"]
        and item["status"]["observedGeneration"] == item["metadata"]["generation"]
        for item in items
        for count in ("replicas", "readyReplicas", "updatedReplicas")
    )


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with the working tree's DAGs, and those of these tests."""
    folder = tmp_path_factory.mktemp("clone")
    copy_dags(folder)
    return folder


def copy_dags(folder: Path) -> None:
    """Create a repository with the working tree's DAGs and those of these tests."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", str(folder)], check=True)
    for source in (REPOSITORY / "dags", DAGS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / "dags", dirs_exist_ok=True, ignore=ignored)


@pytest.fixture(scope="session")
def airflow(deployed: Recording) -> Iterator[Airflow]:
    with Airflow() as client:
        yield client
