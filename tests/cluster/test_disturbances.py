"""Failures in a cluster, none of which loses data or runs."""

from collections.abc import Iterator
from typing import Any

import pytest

from ops.plan.resources import Recording

from .airflow_client import Airflow
from .conftest import ready
from .stack import NAMESPACE, PLATFORM_NAMESPACE, TASKS_NAMESPACE, deploy, get, kubectl, load, wait_until

RUN_SECONDS = 600


@pytest.fixture
def patient(airflow: Airflow) -> Iterator[str]:
    """Yield a run whose first task is running in a pod. The run must succeed despite the disturbance."""
    run = airflow.trigger("patient")
    wait_until(lambda: state(airflow, run, "wait") == "running", "the task")
    yield run
    assert airflow.finish("patient", run, RUN_SECONDS) == "success"
    wait_until(lambda: ready(NAMESPACE), "Airflow")


def state(airflow: Airflow, run: str, task_id: str) -> str:
    return str(next(task["state"] for task in airflow.tasks("patient", run) if task["task_id"] == task_id))


def pods(component: str, namespace: str = NAMESPACE) -> list[str]:
    items = get("pods", "--selector", f"component={component}", namespace=namespace)["items"]
    return [item["metadata"]["name"] for item in items if not item["metadata"].get("deletionTimestamp")]


def test_a_run_survives_the_loss_of_the_scheduler_and_of_the_dag_processor(airflow: Airflow, patient: str) -> None:
    lost = [*pods("scheduler"), *pods("dag-processor")]
    kubectl("delete", "pod", "-n", NAMESPACE, "--grace-period=0", "--force", *lost)


def test_a_run_survives_the_loss_of_its_tasks_pod(airflow: Airflow, patient: str) -> None:
    # The pods of the run before may vanish between the list and the deletion.
    deletion = ("delete", "pod", "-n", TASKS_NAMESPACE, "--ignore-not-found", "--grace-period=0", "--force")
    kubectl(*deletion, *pods("worker", TASKS_NAMESPACE))
    wait_until(
        lambda: any(task["try_number"] > 1 for task in airflow.tasks("patient", patient)), "another try", RUN_SECONDS
    )


def test_a_run_survives_the_loss_of_the_git_server(airflow: Airflow, patient: str) -> None:
    kubectl("scale", "statefulset/git", "--replicas=0", "-n", PLATFORM_NAMESPACE)
    try:
        assert airflow.finish("patient", patient, RUN_SECONDS) == "success"
        assert airflow.dags() >= {"image_classifier", "patient"}
    finally:
        kubectl("scale", "statefulset/git", "--replicas=1", "-n", PLATFORM_NAMESPACE)


def test_a_run_and_all_objects_survive_the_loss_of_the_object_store(airflow: Airflow, patient: str) -> None:
    [old], images = object_stores(), stored("airflow-data")
    assert images.startswith("size:")
    kubectl("delete", "pod", "-n", PLATFORM_NAMESPACE, "--grace-period=0", "--force", old["metadata"]["name"])
    wait_until(lambda: has_successor(old), "the object store")
    assert stored("airflow-data") == images


def object_stores() -> list[Any]:
    return list(get("pods", "--selector", "app.kubernetes.io/name=s3", namespace=PLATFORM_NAMESPACE)["items"])


def has_successor(old: Any) -> bool:
    pods = [pod for pod in object_stores() if pod["metadata"]["uid"] != old["metadata"]["uid"]]
    return any(status["ready"] for pod in pods for status in pod["status"].get("containerStatuses", ()))


def stored(bucket: str) -> str:
    """Return the server's statistics of a bucket: the size and the number of its chunks."""
    shell = ("/usr/bin/weed", "-config_dir=/etc/s3", "shell", "-master=127.0.0.1:9333")
    lines = kubectl("exec", "-i", "-n", PLATFORM_NAMESPACE, "s3-0", "--", *shell, stdin="s3.bucket.list\n").splitlines()
    return next(words[1] for line in lines if (words := line.split()) and words[0] == bucket)


def test_a_run_survives_an_upgrade_to_another_image(airflow: Airflow, patient: str, deployed: Recording) -> None:
    image = get("deployment", "airflow-scheduler")["spec"]["template"]["spec"]["containers"][0]["image"]
    repository, _, tag = image.rpartition(":")
    # The same image under another name, because the test is about replacing every pod.
    other = f"{tag}-next"
    load(image, f"{repository}:{other}")
    deploy(deployed, tuple(f"images.{name}.tag={other}" for name in ("airflow", "pod_template")))
    wait_until(lambda: ready(NAMESPACE), "the upgrade", RUN_SECONDS)
    for component in ("scheduler", "api-server", "dag-processor", "triggerer"):
        names = pods(component)
        assert names
        images = {get("pod", name)["spec"]["containers"][0]["image"] for name in names}
        assert images == {f"{repository}:{other}"}, component
