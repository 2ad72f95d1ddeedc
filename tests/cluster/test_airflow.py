"""Airflow on the cluster, used like by a user."""

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.airflow.network_policies import METRICS_PORT
from infra.airflow_names import MLFLOW, MLFLOW_ADMIN_SECRET

from . import data_pod
from .airflow_client import Airflow, ForwardedPort
from .stack import NAMESPACE, STACK, TASKS_NAMESPACE, get, kubectl, push, wait_until

BROKEN = "from airflow.sdk import dag\nimport nothing_of_this_name\n"
NEW_DAG = """
from airflow.sdk import dag, task

@dag(dag_id="brand_new", schedule=None, catchup=False)
def brand_new():
    @task
    def answer():
        return 42
    answer()

brand_new()
"""
# The SDK's placeholder for the address, so that database access in a task fails with a clear message.
NO_DATABASE = "airflow-db-not-allowed"


def test_the_user_interface_answers(airflow: Airflow) -> None:
    assert "<title>Airflow</title>" in httpx.get(airflow.url, follow_redirects=True).text
    health = airflow.get("monitor/health")
    assert {name: part["status"] for name, part in health.items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )


def test_the_dags_of_the_branch_are_listed(airflow: Airflow) -> None:
    wait_until(lambda: airflow.dags() >= {"image_classifier", "quick", "patient", "intruder"}, "the DAGs")
    assert airflow.import_errors() == {}


def test_the_image_classifier_runs_with_each_task_in_a_pod_of_its_own(airflow: Airflow) -> None:
    """From images to a model that two pods train, one of which is lost on the way, and that is served.

    How well a model learns is proven where `make up` is.
    """
    data_pod.run(STORE_DATA)
    params = {"epochs": 2, "minimum_accuracy": 0, "base_checkpoint": BASE_CHECKPOINT, "workers": 2}
    run = airflow.trigger("image_classifier", params)

    def log(worker: int, attempt: int) -> str:
        return airflow.log("image_classifier", run, "train", attempt, map_index=worker)

    wait_until(lambda: [task["state"] for task in workers(airflow, run)] == ["running"] * 2, "the workers", seconds=900)
    wait_until(lambda: JOINED in log(1, 1), "the training", seconds=900)
    of_worker = "dag_id=image_classifier,task_id=train,map_index=1"
    kubectl("delete", "pod", "-n", TASKS_NAMESPACE, "--selector", of_worker, "--grace-period=0", "--force")
    assert airflow.finish("image_classifier", run, seconds=1500) == "success"
    assert "Another worker has failed or was stopped" in log(0, 1)

    tasks = airflow.tasks("image_classifier", run)
    assert {task["state"] for task in tasks} == {"success"}
    hosts = [task["hostname"] for task in tasks]
    assert len(set(hosts)) == len(hosts) == 10
    last = [task["try_number"] for task in workers(airflow, run)]
    assert len(last) == 2
    assert min(last) > 1
    for worker, attempt in enumerate(last):
        assert JOINED in log(worker, attempt)
        assert "epoch 2/2" in log(worker, attempt)


JOINED = "All 2 workers have joined"


def workers(airflow: Airflow, run: str) -> list[Any]:
    """Return the tasks that train, by the number of the worker."""
    found = [task for task in airflow.tasks("image_classifier", run) if task["task_id"] == "train"]
    return sorted((task for task in found if task["map_index"] >= 0), key=lambda task: int(task["map_index"]))


BASE_CHECKPOINT = "base/random.pth"
IMAGES = 400
STORE_DATA = f"""
import io, os
from concurrent.futures import ThreadPoolExecutor
import boto3, torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.models import resnet18

digits, s3 = load_digits(), boto3.client("s3")

def store(number):
    data = io.BytesIO()
    Image.fromarray((digits.images[number] * 15.9).astype("uint8")).save(data, "PNG")
    key = f"images/digits/{{digits.target[number]}}/{{number:04}}.png"
    s3.put_object(Bucket=os.environ["DATA_BUCKET"], Key=key, Body=data.getvalue())

with ThreadPoolExecutor(8) as pool:
    list(pool.map(store, range({IMAGES})))

checkpoint = io.BytesIO()
torch.save(resnet18().state_dict(), checkpoint)
s3.put_object(Bucket=os.environ["ARTIFACTS_BUCKET"], Key="{BASE_CHECKPOINT}", Body=checkpoint.getvalue())
"""


def test_the_model_that_was_deployed_answers_over_its_service(airflow: Airflow) -> None:
    with ForwardedPort("image-classifier", 8080) as url:
        assert httpx.get(f"{url}/healthz", timeout=30).status_code == 200


def test_the_model_registry_takes_a_login_and_its_own_name_through_a_forwarded_port(airflow: Airflow) -> None:
    secret = get("secret", MLFLOW_ADMIN_SECRET)["data"]
    login = (b64decode(secret["username"]).decode(), b64decode(secret["password"]).decode())
    with ForwardedPort(MLFLOW, 5000) as url:
        assert httpx.get(f"{url}/health", timeout=30).status_code == 200
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=login).status_code == 200
        assert httpx.get(url, auth=login, headers={"Host": "mlflow.attacker.example"}).status_code == 403


@pytest.fixture(scope="module")
def intruder(airflow: Airflow) -> str:
    """Return a run of the DAG of that name, which has ended."""
    run = airflow.trigger("intruder")
    assert airflow.finish("intruder", run, seconds=180) == "success"
    return run


def test_the_log_of_a_task_whose_pod_is_gone_is_shown(airflow: Airflow, intruder: str) -> None:
    pod = airflow.tasks("intruder", intruder)[0]["hostname"]
    wait_until(lambda: pod not in task_pods(), "the pod's end")
    assert "s3://airflow-logs/airflow/dag_id=intruder/" in airflow.log("intruder", intruder, "look")


def test_the_api_waits_for_a_run(airflow: Airflow, intruder: str) -> None:
    assert airflow.get(f"dags/intruder/dagRuns/{intruder}/wait", interval=1) == {"state": "success"}


def task_pods() -> list[str]:
    return [item["metadata"]["name"] for item in get("pods", namespace=TASKS_NAMESPACE)["items"]]


def test_a_task_sees_nothing_that_is_airflows_own(airflow: Airflow, intruder: str) -> None:
    found = airflow.get(f"dags/intruder/dagRuns/{intruder}/taskInstances/look/xcomEntries/return_value")["value"]
    assert all(NO_DATABASE in address for address in found["secrets"].values()), sorted(found["secrets"])
    assert (found["token"], found["written"], found["database"], found["user"]) == (False, False, False, 50000)
    assert found["settings"] == ""


SCHEDULER, API_SERVER = f"{NAMESPACE}:airflow-scheduler", f"{NAMESPACE}:airflow-api-server"
TASK, CLASSIFIER = f"{TASKS_NAMESPACE}:airflow-task", f"{TASKS_NAMESPACE}:dag-image-classifier"
SMOKE_TEST = f"{TASKS_NAMESPACE}:dag-smoke-test"


@pytest.mark.parametrize("account", [TASK, CLASSIFIER, SCHEDULER, API_SERVER])
@pytest.mark.parametrize("namespace", [NAMESPACE, TASKS_NAMESPACE])
def test_no_account_may_read_secrets(airflow: Airflow, account: str, namespace: str) -> None:
    assert not may(account, "list", "secrets", namespace)


@pytest.mark.parametrize("verb", ["create", "get", "patch"])
@pytest.mark.parametrize(("group", "resource"), [("apps", "deployments"), ("", "services")])
def test_a_dag_may_deploy_only_what_it_serves(airflow: Airflow, group: str, resource: str, verb: str) -> None:
    assert may(CLASSIFIER, verb, resource, NAMESPACE, group, "image-classifier")
    assert not may(CLASSIFIER, verb, resource, NAMESPACE, group, "mlflow")
    assert not may(CLASSIFIER, verb, resource, NAMESPACE, group)
    assert not may(SMOKE_TEST, verb, resource, NAMESPACE, group, "image-classifier")


def test_only_the_scheduler_may_make_pods_and_only_in_the_namespace_of_tasks(airflow: Airflow) -> None:
    assert may(SCHEDULER, "create", "pods", TASKS_NAMESPACE)
    assert not may(SCHEDULER, "create", "pods", NAMESPACE)
    for account in (TASK, CLASSIFIER, API_SERVER):
        for namespace in (NAMESPACE, TASKS_NAMESPACE):
            assert not may(account, "create", "pods", namespace), (account, namespace)


def may(account: str, verb: str, resource: str, namespace: str, group: str = "", name: str = "") -> bool:
    """Return whether an account has a permission in a namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{account}",
            "resourceAttributes": {
                "namespace": namespace,
                "verb": verb,
                "group": group,
                "resource": resource,
                "name": name,
            },
        },
    }
    answer = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))
    return bool(answer["status"]["allowed"])


def test_a_pushed_dag_is_listed_and_runs(airflow: Airflow, clone: Path) -> None:
    push(clone, {"brand_new/brand_new_dag.py": NEW_DAG})
    wait_until(lambda: "brand_new" in airflow.dags(), "the new DAG", seconds=60)
    assert airflow.finish("brand_new", airflow.trigger("brand_new"), seconds=180) == "success"


def test_a_dag_is_run_and_followed_from_the_command_line(airflow: Airflow) -> None:
    lines = ops("run", "quick", "--stack", STACK).stdout.splitlines()
    assert lines[0] == f"quick is newer than the last deployment: run `make deploy STACK={STACK}` to give it its rights"
    assert lines[1].startswith("started the run manual__")
    assert lines[-1].endswith(" succeeded")
    unknown = ops("run", "nothing", "--stack", STACK)
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "error: local has no DAG nothing: push dags/nothing to its branch, see `make status`\n",
    )


def test_a_user_is_created_from_the_command_line_and_logs_in(airflow: Airflow) -> None:
    created = ops("user", "anna", "--role", "viewer", "--stack", STACK).stdout.splitlines()
    assert created[0] == "created the viewer anna"
    login = {"username": "anna", "password": created[1].removeprefix("password   ")}
    viewer = {"Authorization": f"Bearer {httpx.post(f'{airflow.url}/auth/token', json=login).json()['access_token']}"}
    assert httpx.get(f"{airflow.url}/api/v2/dags", headers=viewer).status_code == 200
    paused = httpx.patch(f"{airflow.url}/api/v2/dags/quick", headers=viewer, json={"is_paused": True})
    assert paused.status_code == 403


def ops(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ops", *arguments], check=False, capture_output=True, text=True)


def test_a_broken_file_is_reported_and_leaves_the_other_dags_running(airflow: Airflow, clone: Path) -> None:
    push(clone, {"broken/broken_dag.py": BROKEN})
    errors = wait_until(airflow.import_errors, "the report of the broken file", seconds=60)
    assert "No module named 'nothing_of_this_name'" in errors["broken/broken_dag.py"]
    assert airflow.finish("quick", airflow.trigger("quick"), seconds=180) == "success"
    push(clone, {"broken/broken_dag.py": ""})
    wait_until(lambda: not airflow.import_errors(), "the report's end", seconds=60)


def test_each_of_two_commits_within_seconds_is_shown_as_what_runs(airflow: Airflow, clone: Path) -> None:
    def shown() -> bool:
        versions = airflow.get("dags/brand_new/dagVersions")["dag_versions"]
        return commit in [version["bundle_version"] for version in versions]

    for answer in ("43", "44"):
        commit = push(clone, {"brand_new/brand_new_dag.py": NEW_DAG.replace("42", answer)})
        wait_until(shown, "the commit", seconds=60)


def test_metrics_are_there_for_prometheus(airflow: Airflow) -> None:
    with ForwardedPort("airflow-statsd", METRICS_PORT) as url:
        text = httpx.get(f"{url}/metrics").text
    assert "airflow_scheduler_heartbeat" in text
