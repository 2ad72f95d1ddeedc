"""The executor of images/airflow: the account and the identity of a task's pod, and what follows from a refusal."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.executors.workloads import ExecuteTask
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from infra import helm_values
from infra.documents import REPOSITORY

LIB = REPOSITORY / "images" / "airflow" / "lib"
ACCOUNTS = {"image_classifier": "dag-image-classifier"}
DENIED = (
    "pods \"train\" is forbidden: ValidatingAdmissionPolicy 'airflow-task-pods' with binding 'airflow-task-pods' "
    "denied request: a task may only use the Secrets mlflow-tasks"
)
TEMPLATE = k8s.V1Pod(
    metadata=k8s.V1ObjectMeta(labels={"component": "worker"}),
    spec=k8s.V1PodSpec(service_account_name="airflow-task", containers=[k8s.V1Container(name="base", image="ml:1")]),
)

# A DAG file as a worker reads it; the pod of its tasks was refused.
DAG_FILE = """
from airflow.sdk import dag, task

@dag(dag_id="refused", schedule=None)
def refused():
    @task
    def plain(): ...

    @task
    def mapped(x): ...

    plain()
    mapped.expand(x=[1, 2])

refused()
"""
WORKER = """
import sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["refused"]
mapped = dag.get_task("mapped").unmap({"op_kwargs": {"x": 1}})
for task in (dag.get_task("plain"), mapped):
    try:
        task._pre_execute_hook({})
    except Exception as error:
        print(type(error).__name__, error, sep=": ")
"""


@pytest.fixture
def task_pods(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DAG_ACCOUNTS", json.dumps(ACCOUNTS))
    monkeypatch.syspath_prepend(LIB)
    for name in ("task_pods", "airflow_local_settings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("task_pods")


@pytest.fixture
def executor(task_pods: Any) -> Any:
    created = task_pods.DagKubernetesExecutor()
    created.task_queue = Queue()
    created.scheduler_job_id = "1"
    return created


def queue(executor: Any, dag_id: str, pod: Any = None) -> Any:
    """Queue a task, and return its job."""
    workload = ExecuteTask.model_construct(ti=SimpleNamespace(dag_id=dag_id, task_id="train"))
    config = {} if pod is None else {"pod_override": pod}
    key = TaskInstanceKey(dag_id, "train", "manual")
    executor.execute_async(key=key, command=[workload], executor_config=config)
    return executor.task_queue.get_nowait()


def built(job: Any) -> Any:
    """Return the pod that Airflow builds for a job."""
    return PodGenerator.construct_pod(
        dag_id=job.key.dag_id,
        task_id="train",
        pod_id="train",
        try_number=1,
        kube_image="airflow:1",
        date=None,
        args=[],
        pod_override_object=job.kube_executor_config,
        base_worker_pod=TEMPLATE,
        namespace="airflow-tasks",
        scheduler_job_id="1",
    )


def with_account(account: str | None) -> Any:
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[], service_account_name=account))


def refusal_of(pod: Any) -> str | None:
    variables = {variable.name: variable.value for variable in pod.spec.containers[0].env}
    return variables.get("TASK_POD_REFUSED")


@pytest.mark.parametrize("pod", [None, *map(with_account, ["airflow-task", "dag-image-classifier", None])])
def test_a_task_has_the_account_of_its_dag(executor: Any, pod: Any) -> None:
    pod = built(queue(executor, "image_classifier", pod))
    assert (pod.spec.service_account_name, refusal_of(pod)) == ("dag-image-classifier", None)


def test_a_dag_that_is_not_deployed_yet_has_the_account_of_the_pod_template(executor: Any) -> None:
    assert built(queue(executor, "churn")).spec.service_account_name == "airflow-task"


def test_the_other_wishes_of_a_task_are_met(executor: Any) -> None:
    wish = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(labels={"team": "vision"}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="own:1")], node_selector={"gpu": "yes"}),
    )
    pod = built(queue(executor, "image_classifier", wish))
    assert (
        pod.metadata.labels.items() >= {"team": "vision", "component": "worker", "dag_id": "image_classifier"}.items()
    )
    assert (pod.spec.containers[0].image, pod.spec.node_selector) == ("own:1", {"gpu": "yes"})
    assert wish.spec.service_account_name is None


@pytest.mark.parametrize("account", ["airflow-scheduler", "dag-image-classifier"])
def test_a_task_that_asks_for_another_account_gets_a_pod_that_says_so(executor: Any, account: str) -> None:
    pod = built(queue(executor, "churn", with_account(account)))
    assert pod.spec.service_account_name == "airflow-task"
    assert refusal_of(pod) == f"the service account of churn is airflow-task, not {account}"


@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_a_task_cannot_pass_for_the_task_of_another_dag(executor: Any, where: str) -> None:
    forged = k8s.V1Pod(metadata=k8s.V1ObjectMeta(**{where: {"dag_id": "image_classifier", "team": "vision"}}))
    pod = built(queue(executor, "churn", forged))
    assert (pod.metadata.labels["dag_id"], pod.metadata.annotations["dag_id"]) == ("churn", "churn")
    assert pod.spec.service_account_name == "airflow-task"
    assert refusal_of(pod) == "only Airflow sets the labels and annotations dag_id"


def test_a_task_cannot_choose_the_name_of_its_pod(executor: Any) -> None:
    named = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="image-classifier-train-1"))
    pod = built(queue(executor, "churn", named))
    assert pod.metadata.name == "train"
    assert refusal_of(pod) == "only Airflow names the pod of a task"


def test_no_label_or_annotation_that_airflow_sets_can_be_forged(executor: Any, task_pods: Any) -> None:
    metadata = built(queue(executor, "churn")).metadata
    chosen = {*TEMPLATE.metadata.labels}
    assert {*metadata.labels, *metadata.annotations} - chosen <= {*task_pods.IDENTITY}


def test_a_wish_that_is_not_a_pod_is_refused(executor: Any) -> None:
    pod = built(queue(executor, "churn", {"spec": {}}))
    assert refusal_of(pod) == "pod_override must be a kubernetes.client.models.V1Pod"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json.dumps({"message": DENIED}), "a task may only use the Secrets mlflow-tasks"),
        (
            json.dumps({"message": 'pods is forbidden: User "x" cannot create'}),
            'pods is forbidden: User "x" cannot create',
        ),
        ("no JSON", "no JSON"),
    ],
)
def test_a_pod_that_kubernetes_refuses_is_replaced_by_one_that_says_so(executor: Any, answer: str, reason: str) -> None:
    job = queue(executor, "churn", with_account("airflow-task"))
    executor._handle_pod_publish_error(job, refused(answer))
    again = executor.task_queue.get_nowait()
    assert (again.key, again.command) == (job.key, job.command)
    assert refusal_of(built(again)) == reason


def test_a_task_whose_second_pod_is_refused_too_fails(executor: Any) -> None:
    job = queue(executor, "churn", with_account("airflow-scheduler"))
    executor._handle_pod_publish_error(job, refused(json.dumps({"message": DENIED})))
    assert executor.task_queue.empty()
    assert executor.event_buffer[job.key][0] == "failed"


def test_a_task_whose_pod_must_wait_for_the_quota_is_not_refused(executor: Any) -> None:
    executor.task_publish_max_retries = -1
    job = queue(executor, "churn")
    executor._handle_pod_publish_error(job, refused(json.dumps({"message": "exceeded quota: tasks"})))
    assert executor.task_queue.get_nowait() is job


def test_a_pod_that_fails_for_another_reason_fails_its_task(executor: Any) -> None:
    job = queue(executor, "churn")
    executor.task_publish_max_retries = 0
    executor._handle_pod_publish_error(job, ApiException(status=500, reason="Internal Server Error"))
    assert executor.task_queue.empty()
    assert executor.event_buffer[job.key][0] == "failed"


def refused(body: str) -> ApiException:
    error = ApiException(status=403, reason="Forbidden")
    error.body = body
    return error


def airflow(folder: Path, program: str, *arguments: str, **variables: str) -> list[str]:
    """Run a program with Airflow as in the image, and return what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AIRFLOW_HOME": str(folder), **variables}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**environment, "PYTHONPATH": str(LIB)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_a_refused_task_fails_without_retries_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "refused_dag.py"
    file.write_text(DAG_FILE)
    lines = airflow(tmp_path, WORKER, str(file), TASK_POD_REFUSED="the secret is not yours")
    sentence = "The pod of this task was refused: the secret is not yours. Change the task's executor_config."
    assert lines[-2:] == [f"AirflowFailException: {sentence}"] * 2


def test_airflow_finds_the_executor_by_the_name_in_the_values(tmp_path: Path) -> None:
    name = helm_values.read(helm_values.SHARED)["executor"]
    program = "from airflow.executors.executor_loader import ExecutorLoader as all; print(all.get_default_executor())"
    assert airflow(tmp_path, program, AIRFLOW__CORE__EXECUTOR=name)[-1].startswith("DagKubernetesExecutor(")
