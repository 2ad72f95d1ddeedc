from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException

from infra.errors import OperationError
from ops.teardown import cluster_contents


class Cluster:
    """A cluster whose objects take a moment to disappear: first the namespace, then its volume."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.namespaces = ["airflow", "default", "kube-system"]
        self.volumes = {"data": "Delete", "kept": "Retain"}
        self.karpenter = {"nodepools": ["cpu", "gpu"], "nodeclaims": ["node-1"]}

    def list_namespace(self) -> Any:
        return SimpleNamespace(items=[_object(name) for name in self.namespaces])

    def delete_namespace(self, name: str) -> None:
        self.did.append(f"namespace {name}")
        self._namespace_going = self._go(name)

    def _go(self, name: str) -> Iterator[None]:
        self.namespaces.remove(name)
        yield
        self.volumes.pop("data")
        yield

    def list_persistent_volume(self) -> Any:
        volumes = [
            SimpleNamespace(
                metadata=SimpleNamespace(name=name),
                spec=SimpleNamespace(
                    persistent_volume_reclaim_policy=policy, csi=SimpleNamespace(volume_handle=f"vol-{name}")
                ),
            )
            for name, policy in self.volumes.items()
        ]
        next(self._namespace_going, None)
        return SimpleNamespace(items=volumes)

    def list_cluster_custom_object(self, *, group: str, version: str, plural: str) -> Any:
        assert (group, version) == ("karpenter.sh", "v1")
        found = list(self.karpenter[plural])
        if plural == "nodeclaims" and not self.karpenter["nodepools"]:
            self.karpenter["nodeclaims"] = []
        return {"items": [{"metadata": {"name": name}} for name in found]}

    def delete_cluster_custom_object(self, *, group: str, version: str, plural: str, name: str) -> None:
        assert (group, version) == ("karpenter.sh", "v1")
        self.did.append(f"{plural} {name} with volumes {sorted(self.volumes)}")
        self.karpenter[plural].remove(name)


def _object(name: str) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(name=name))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(kubernetes.config, "new_client_from_config_dict", lambda _: None)
    monkeypatch.setattr(kubernetes.client, "CoreV1Api", lambda _: found)
    monkeypatch.setattr(kubernetes.client, "CustomObjectsApi", lambda _: found)
    monkeypatch.setattr(cluster_contents, "POLL_INTERVAL_SECONDS", 0)
    return found


def test_nodes_go_after_the_volumes_and_kubernetes_own_namespaces_stay(cluster: Cluster) -> None:
    assert cluster_contents.delete_contents({}, lambda _: None) == ["vol-kept"]
    assert cluster.did == [
        "namespace airflow",
        "nodepools cpu with volumes ['kept']",
        "nodepools gpu with volumes ['kept']",
    ]
    assert cluster.karpenter == {"nodepools": [], "nodeclaims": []}


def test_it_says_what_it_waits_for(cluster: Cluster) -> None:
    said: list[str] = []
    cluster_contents.delete_contents({}, said.append)
    assert "waiting for namespaces and volumes: volume data" in said
    assert "waiting for nodes: node-1" in said


def test_undeleted_objects_are_listed_and_the_nodes_are_kept(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_contents, "TIMEOUT_SECONDS", -1)
    with pytest.raises(
        OperationError, match=r"^still not deleted after .* and nothing else was deleted: airflow, volume data; check"
    ):
        cluster_contents.delete_contents({}, lambda _: None)
    assert cluster.did == ["namespace airflow"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ApiException(status=403, reason="Forbidden"),
            r"^the cluster refused the request \(403 Forbidden\): check that you have administrator access",
        ),
        (
            OSError("no route to host"),
            r"^the cluster cannot be reached \(no route to host\): check that you can reach its API",
        ),
    ],
)
def test_a_cluster_without_access_is_one_sentence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cluster, "list_namespace", fail)
    with pytest.raises(OperationError, match=sentence):
        cluster_contents.delete_contents({}, lambda _: None)
