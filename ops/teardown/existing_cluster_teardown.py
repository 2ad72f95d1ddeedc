"""Prove that nothing of a stack is left in an existing cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import OperationError
from ops.console import Echo
from ops.kubernetes.cluster import Cluster

# Volumes are deleted a little later than their claims.
TIMEOUT_SECONDS = 60
POLL_INTERVAL_SECONDS = 2


def report(
    stack: str, cluster: Cluster, objects: Sequence[Mapping[str, Any]], namespaces: Sequence[str], echo: Echo
) -> None:
    """Report that nothing of a stack is left in a cluster.

    Raises:
        OperationError: Objects are left. They are printed first.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (left := leftovers(cluster, objects, namespaces)) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_SECONDS)
    for thing in left:
        echo(f"left: {thing}")
    if left:
        raise OperationError(
            f"{len(left)} objects of {stack} are left in {cluster.context}: delete the ones listed above"
        )
    echo(
        f"nothing of {stack} is left in {cluster.context}: no namespace {' or '.join(namespaces)}, none of their "
        f"volumes, none of the {len(objects)} objects"
    )


def leftovers(cluster: Cluster, objects: Sequence[Mapping[str, Any]], namespaces: Sequence[str]) -> list[str]:
    """Return which of the namespaces, their volumes, and the objects in Pulumi's state still exist.

    Raises:
        OperationError: The request to the cluster failed.
    """
    there = set(cluster.namespaces())
    return [
        *(f"namespace {name}" for name in namespaces if name in there),
        *(f"volume {name}" for name in cluster.volumes_of(namespaces)),
        *(f"{thing['kind']} {thing['metadata']['name']}" for thing in objects if cluster.has(thing)),
    ]
