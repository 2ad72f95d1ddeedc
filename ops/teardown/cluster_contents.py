"""Delete the contents of a cluster, and wait until the AWS resources that it created are gone, too.

The cluster creates volumes, load balancers and nodes that Pulumi does not know. Once the cluster is deleted, nothing
deletes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import kubernetes
from kubernetes.client.exceptions import ApiException

from infra.errors import OperationError
from ops.console import Echo

# Kubernetes' own namespaces: they cannot be deleted, or create no AWS resources.
KEPT = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
KARPENTER = {"group": "karpenter.sh", "version": "v1"}
TIMEOUT_SECONDS = 900
POLL_INTERVAL_SECONDS = 5


def delete_contents(access: Mapping[str, Any], echo: Echo) -> list[str]:
    """Delete all namespaces but Kubernetes' own, then the node pools; wait until volumes and nodes are gone.

    Returns:
        The IDs of the volumes that are kept, because their reclaim policy is not Delete.

    Raises:
        OperationError: The cluster cannot be reached, or something is not gone after fifteen minutes.
    """
    client = kubernetes.config.new_client_from_config_dict(dict(access))
    core, custom = kubernetes.client.CoreV1Api(client), kubernetes.client.CustomObjectsApi(client)
    try:
        for name in _namespaces(core):
            echo(f"deleting the namespace {name}")
            core.delete_namespace(name)
        _wait(
            lambda: [*_namespaces(core), *(f"volume {each.metadata.name}" for each in _volumes(core, kept=False))],
            "namespaces and volumes",
            echo,
        )
        for pool in _named(custom, "nodepools"):
            echo(f"deleting the node pool {pool}")
            custom.delete_cluster_custom_object(**KARPENTER, plural="nodepools", name=pool)
        _wait(lambda: [*_named(custom, "nodepools"), *_named(custom, "nodeclaims")], "nodes", echo)
        return [volume.spec.csi.volume_handle for volume in _volumes(core, kept=True) if volume.spec.csi]
    except ApiException as error:
        raise OperationError(
            f"the cluster refused the request ({error.status} {error.reason}): check that you have administrator access"
        ) from error
    except OSError as error:
        raise OperationError(f"the cluster cannot be reached ({error}): check that you can reach its API") from error


def _namespaces(core: Any) -> list[str]:
    names = [item.metadata.name for item in core.list_namespace().items]
    return [name for name in names if name not in KEPT]


def _volumes(core: Any, *, kept: bool) -> list[Any]:
    """Return the volumes whose disks are kept, or those whose disks are deleted with them."""
    volumes = core.list_persistent_volume().items
    return [each for each in volumes if (each.spec.persistent_volume_reclaim_policy != "Delete") is kept]


def _named(custom: Any, plural: str) -> list[str]:
    items = custom.list_cluster_custom_object(**KARPENTER, plural=plural)["items"]
    return [item["metadata"]["name"] for item in items]


def _wait(left: Callable[[], list[str]], what: str, echo: Echo) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while remaining := left():
        if time.monotonic() > deadline:
            raise OperationError(
                f"still not deleted after {TIMEOUT_SECONDS // 60} minutes, and nothing else was deleted: "
                f"{', '.join(remaining)}; check what blocks them with `kubectl describe`, then rerun this command"
            )
        echo(f"waiting for {what}: {', '.join(remaining)}")
        time.sleep(POLL_INTERVAL_SECONDS)
