"""Requests to a Kubernetes API."""

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.errors import OperationError
from infra.settings import DagSettings
from ops.airflow import dags
from ops.kubernetes import cluster as module
from ops.kubernetes.cluster import Cluster, ConflictError, NotFoundError
from ops.loopback import LOOPBACK
from ops.stacks.stack import Stack
from tests.kubernetes_api import KubernetesApi, kubernetes_api

NAMESPACE = "airflow"
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}}
VOLUMES = "/api/v1/persistentvolumes"


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as server:
        yield server


def secret(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}}


def test_an_object_is_found_by_its_kind_and_name(api: KubernetesApi) -> None:
    created = api.cluster.create(NAMESPACE, JOB)
    assert api.cluster.get("Job", "migrate", NAMESPACE, "batch/v1") == created
    assert api.cluster.get("Job", "migrate", "default", "batch/v1") is None
    assert api.cluster.get("Secret", "migrate", NAMESPACE) is None


def test_objects_are_found_by_their_labels(api: KubernetesApi) -> None:
    api.cluster.create(NAMESPACE, secret("a", component="web"))
    api.cluster.create(NAMESPACE, secret("b", component="scheduler"))
    assert api.cluster.names("Secret", NAMESPACE) == ["a", "b"]
    assert api.cluster.names("Secret", NAMESPACE, "component=web") == ["a"]
    assert api.cluster.names("Secret", "default") == []


def test_an_object_of_an_unknown_kind_does_not_exist(api: KubernetesApi) -> None:
    own = {"metadata": {"name": "x", "namespace": NAMESPACE}}
    assert not api.cluster.has({**own, "apiVersion": "example.com/v1", "kind": "Thing"})
    assert not api.cluster.has({**own, "apiVersion": "batch/v1", "kind": "Job"})
    api.cluster.create(NAMESPACE, {**JOB, **own})
    assert api.cluster.has({**own, "apiVersion": "batch/v1", "kind": "Job"})


def test_secrets_are_listed_from_the_newest_to_the_oldest(api: KubernetesApi) -> None:
    for name, days in (("middle", 0), ("newest", 1), ("oldest", -60)):
        api.created_at += timedelta(days=days)
        api.cluster.create(NAMESPACE, secret(name))
        api.created_at -= timedelta(days=days)
    assert api.cluster.secrets(NAMESPACE) == ["newest", "middle", "oldest"]


def test_volumes_are_found_by_the_namespaces_of_their_claims(api: KubernetesApi) -> None:
    claims: dict[str, Any] = {"own": {"namespace": NAMESPACE}, "other": {"namespace": "default"}, "unused": None}
    for name, claim in claims.items():
        spec = {"claimRef": claim} if claim else {}
        api.objects[f"{VOLUMES}/{name}"] = {"metadata": {"name": name}, "spec": spec}
    assert api.cluster.volumes_of([NAMESPACE]) == ["own"]


def test_an_object_is_created_and_deleted_once(api: KubernetesApi) -> None:
    api.cluster.create(NAMESPACE, JOB)
    with pytest.raises(ConflictError, match=r"^the cluster kind-test refused the request \(409 Conflict\)"):
        api.cluster.create(NAMESPACE, JOB)
    api.cluster.delete("Job", "migrate", NAMESPACE, {}, "batch/v1")
    with pytest.raises(NotFoundError, match=r"^the cluster kind-test refused the request \(404 NotFound\)"):
        api.cluster.delete("Job", "migrate", NAMESPACE, {}, "batch/v1")


PRIVATE = DagSettings(repository="https://example.com/dags.git", branch="dev", credentials="token")


def stack_with(api: KubernetesApi, *namespaces: str) -> Stack:
    for name in namespaces:
        api.objects[f"/api/v1/namespaces/{name}"] = {"metadata": {"name": name}}
    found = SimpleNamespace(cluster=api.cluster, namespace=NAMESPACE, name="local")
    return cast(Stack, found)


def keys(api: KubernetesApi) -> dict[str, Any]:
    """Return the keys of the DAG repository by namespace."""
    return {path.split("/")[4]: thing for path, thing in api.objects.items() if path.endswith("/secrets/dags-git")}


def test_a_new_key_replaces_the_old_one(api: KubernetesApi) -> None:
    stack = stack_with(api, NAMESPACE)
    said: list[str] = []
    for token in ("first", "second"):
        dags.put_key(stack, PRIVATE, token, "me", said.append)
        stored = keys(api)
        assert stored.keys() == {NAMESPACE}
        assert {key["stringData"]["GIT_SYNC_PASSWORD"] for key in stored.values()} == {token}
    assert len(said) == 2


def test_a_key_is_stored_nowhere_if_the_namespace_is_missing(api: KubernetesApi) -> None:
    stack = stack_with(api)
    with pytest.raises(OperationError, match=r"^the cluster has no namespace airflow yet: run `make deploy STA"):
        dags.put_key(stack, PRIVATE, "token", "me", lambda _: None)
    assert keys(api) == {}


def test_kinds_of_the_core_api_are_not_looked_up_in_other_groups(api: KubernetesApi) -> None:
    api.cluster.names("Secret", NAMESPACE)
    assert [path for _, path in api.requests] == [
        "/version",
        "/apis",
        "/api/v1",
        "/api/v1/namespaces/airflow/secrets",
    ]


def test_the_shared_temporary_folder_is_not_used(
    api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    api.cluster.names("Secret", NAMESPACE)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_accepts_connections_but_does_not_respond_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server((LOOPBACK, 0)) as server, kubernetes_api() as api:
        address = f"http://{LOOPBACK}:{server.getsockname()[1]}"
        access = json.loads(json.dumps(api.cluster.access).replace(f"http://{LOOPBACK}:{api.server_port}", address))
        begun = time.monotonic()
        for request in (Cluster.check, Cluster.namespaces):
            with pytest.raises(OperationError, match=r"^the cluster kind-test does not respond: start it, or check"):
                request(Cluster.of_access(access))
        assert time.monotonic() - begun < 5
