"""Delete what runs in a cluster, and wait until the cloud's objects that it brought about are gone too.

Volumes, load balancers and nodes are made by the cluster and unknown to Pulumi: once the cluster is gone, nobody
deletes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kubernetes
from kubernetes.client.exceptions import ApiException

from infra.errors import OperationError
from ops.console import Echo

# Kubernetes' own: they cannot be deleted, or make nothing in the cloud.
KEPT = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
KARPENTER = {"group": "karpenter.sh", "version": "v1"}
PATIENCE_SECONDS = 900
POLL_SECONDS = 5


def delete_contents(access: Mapping[str, Any], echo: Echo) -> None:
    """Delete all namespaces but Kubernetes' own, then the node pools; wait until volumes and nodes are gone.

    Raises:
        OperationError: The cluster cannot be reached, or something is not gone after fifteen minutes.
    """
    client = kubernetes.config.new_client_from_config_dict(dict(access))
    core, custom = kubernetes.client.CoreV1Api(client), kubernetes.client.CustomObjectsApi(client)
    try:
        for name in _namespaces(core):
            echo(f"deleting the namespace {name}")
            core.delete_namespace(name)
        _wait(lambda: [*_namespaces(core), *_volumes(core)], "namespaces and volumes", echo)
        for pool in _named(custom, "nodepools"):
            echo(f"deleting the node pool {pool}")
            custom.delete_cluster_custom_object(**KARPENTER, plural="nodepools", name=pool)
        _wait(lambda: [*_named(custom, "nodepools"), *_named(custom, "nodeclaims")], "nodes", echo)
    except ApiException as error:
        raise OperationError(
            f"the cluster refused ({error.status} {error.reason}): see that you administer it"
        ) from error
    except OSError as error:
        raise OperationError(f"the cluster cannot be reached ({error}): see that its API is open to you") from error


def _namespaces(core: Any) -> list[str]:
    names = [item.metadata.name for item in core.list_namespace().items]
    return [name for name in names if name not in KEPT]


def _volumes(core: Any) -> Iterator[str]:
    """Yield the volumes whose disks go with them; one with another policy stays by its owner's wish."""
    for volume in core.list_persistent_volume().items:
        if volume.spec.persistent_volume_reclaim_policy == "Delete":
            yield f"volume {volume.metadata.name}"


def _named(custom: Any, plural: str) -> list[str]:
    items = custom.list_cluster_custom_object(**KARPENTER, plural=plural)["items"]
    return [item["metadata"]["name"] for item in items]


def _wait(left: Callable[[], list[str]], what: str, echo: Echo) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while remaining := left():
        if time.monotonic() > deadline:
            raise OperationError(
                f"after {PATIENCE_SECONDS // 60} minutes these are still there: {', '.join(remaining)}; "
                "nothing else was deleted: see what holds them (`kubectl describe`), then run the same command again"
            )
        echo(f"waiting for {what}: {', '.join(remaining)}")
        time.sleep(POLL_SECONDS)
