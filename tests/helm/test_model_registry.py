"""The logins of the model registry: each is only where it is needed."""

from collections.abc import Iterator
from typing import Any

import pytest

from ops.plan.manifests import Object

from .conftest import all_pods, containers, of_kind

Objects = tuple[Object, ...]

SERVING_SECRET = "image-classifier-serving"
SECRETS = ("mlflow-admin", "mlflow-users", "mlflow-tasks", SERVING_SECRET)
PASSWORDS = ("MLFLOW_ADMIN_PASSWORD", "MLFLOW_TASKS_PASSWORD", "MLFLOW_SERVING_PASSWORD")


@pytest.fixture
def contents(objects: Objects) -> dict[str, dict[str, str]]:
    return {name: of_kind(objects, "Secret")[name]["stringData"] for name in SECRETS}


def test_the_server_knows_the_password_of_every_user(objects: Objects, contents: dict[str, dict[str, str]]) -> None:
    [server] = of_kind(objects, "Deployment")["mlflow"]["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "mlflow-users"}} in server["envFrom"]
    assert contents["mlflow-users"].keys() == set(PASSWORDS)
    assert all(contents["mlflow-users"].values())


def test_administrator_tasks_and_serving_have_separate_logins(contents: dict[str, dict[str, str]]) -> None:
    admin, tasks, serving = (contents["mlflow-users"][name] for name in PASSWORDS)
    assert contents["mlflow-admin"] == {"username": "admin", "password": admin}
    assert contents["mlflow-tasks"] == {"MLFLOW_TRACKING_USERNAME": "tasks", "MLFLOW_TRACKING_PASSWORD": tasks}
    assert contents[SERVING_SECRET].items() >= {
        ("MLFLOW_TRACKING_USERNAME", "serving"),
        ("MLFLOW_TRACKING_PASSWORD", serving),
    }


def test_serving_has_the_object_stores_keys_if_there_are_any(
    stack: str, objects: Objects, contents: dict[str, dict[str, str]]
) -> None:
    keys = of_kind(objects, "Secret").get("object-store", {}).get("stringData", {})
    assert bool(keys) == (stack == "local")
    assert contents[SERVING_SECRET].keys() == {
        *keys, "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
    }  # fmt: skip
    assert keys.items() <= contents[SERVING_SECRET].items()


def test_only_the_servers_pod_has_more_than_its_own_login(objects: Objects) -> None:
    for name, pod in all_pods(objects):
        if name != "Deployment mlflow":
            assert not {"mlflow-admin", "mlflow-users"} & set(secrets_of(pod)), name


def secrets_of(pod: Any) -> Iterator[str]:
    for container in containers(pod):
        yield from (one["secretRef"]["name"] for one in container.get("envFrom", []) if "secretRef" in one)
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield reference["name"]
