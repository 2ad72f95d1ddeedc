"""The hook of images/airflow that gives the pod of a task the service account of its DAG."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import models as k8s

from infra.documents import REPOSITORY

LIB = REPOSITORY / "images" / "airflow" / "lib"
ACCOUNTS = {"image_classifier": "dag-image-classifier"}

# The scheduler's way to a task's pod.
PROGRAM = """
from airflow.settings import pod_mutation_hook
from kubernetes.client import models as k8s
metadata = k8s.V1ObjectMeta(annotations={"dag_id": "image_classifier"})
pod = k8s.V1Pod(metadata=metadata, spec=k8s.V1PodSpec(containers=[]))
pod_mutation_hook(pod)
print(pod.spec.service_account_name)
"""


@pytest.fixture
def local_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DAG_ACCOUNTS", json.dumps(ACCOUNTS))
    spec = importlib.util.spec_from_file_location("local_settings", LIB / "airflow_local_settings.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pod_of(dag_id: str, account: str | None) -> Any:
    metadata = k8s.V1ObjectMeta(annotations={"dag_id": dag_id, "task_id": "train"})
    return k8s.V1Pod(metadata=metadata, spec=k8s.V1PodSpec(containers=[], service_account_name=account))


@pytest.mark.parametrize("account", ["airflow-task", "dag-image-classifier", None])
def test_a_task_has_the_account_of_its_dag(local_settings: Any, account: str | None) -> None:
    pod = pod_of("image_classifier", account)
    local_settings.pod_mutation_hook(pod)
    assert pod.spec.service_account_name == "dag-image-classifier"


def test_a_dag_that_is_not_deployed_yet_keeps_the_account_of_the_pod_template(local_settings: Any) -> None:
    pod = pod_of("churn", "airflow-task")
    local_settings.pod_mutation_hook(pod)
    assert pod.spec.service_account_name == "airflow-task"


@pytest.mark.parametrize("account", ["airflow-scheduler", "dag-image-classifier"])
def test_a_task_that_asks_for_another_account_is_refused(local_settings: Any, account: str) -> None:
    sentence = rf"^the task asks for the service account {account}, but churn has the account airflow-task: remove "
    with pytest.raises(ValueError, match=sentence):
        local_settings.pod_mutation_hook(pod_of("churn", account))


def test_an_operators_own_pod_is_left_alone(local_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_settings, "ACCOUNTS", None)
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(), spec=k8s.V1PodSpec(containers=[], service_account_name="other"))
    local_settings.pod_mutation_hook(pod)
    assert pod.spec.service_account_name == "other"


def test_airflow_finds_the_hook_by_itself(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "PYTHONPATH": str(LIB), "DAG_ACCOUNTS": json.dumps(ACCOUNTS)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "dag-image-classifier"
