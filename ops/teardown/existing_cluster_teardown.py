"""Destroy a stack on an existing cluster, and prove that nothing of it is left there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import OperationError
from ops.airflow.installation import on_existing_cluster
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment

# Volumes go a little after their claims.
PATIENCE_SECONDS = 60
POLL_SECONDS = 2


def destroy(deployment: ExistingClusterDeployment, echo: Echo) -> None:
    """Destroy the stack, and list what is left.

    Raises:
        OperationError: A step failed, or something is left.
    """
    objects = deployment.objects()
    deployment.run("destroy", "--yes", "--refresh")
    namespaces = on_existing_cluster(deployment.stack, deployment.settings, deployment.cluster).namespaces
    report(deployment.stack, deployment.cluster, objects, namespaces, echo)
    deployment.run("stack", "rm", "--yes", "--preserve-config")


def report(
    stack: str, cluster: Cluster, objects: Sequence[Mapping[str, Any]], namespaces: Sequence[str], echo: Echo
) -> None:
    """Say that nothing of a stack is left in a cluster.

    Raises:
        OperationError: Something is; each thing is said before.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := leftovers(cluster, objects, namespaces)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for thing in left:
        echo(f"left: {thing}")
    if left:
        raise OperationError(f"{len(left)} things of {stack} are left in {cluster.context}: they are listed above")
    echo(
        f"nothing of {stack} is left in {cluster.context}: no namespace {' or '.join(namespaces)}, none of their "
        f"volumes, none of the {len(objects)} objects"
    )


def leftovers(cluster: Cluster, objects: Sequence[Mapping[str, Any]], namespaces: Sequence[str]) -> list[str]:
    """Return what is left of namespaces, of their volumes, and of the objects that Pulumi wrote down.

    Raises:
        OperationError: The cluster cannot be asked.
    """
    there = set(cluster.namespaces())
    return [
        *(f"namespace {name}" for name in namespaces if name in there),
        *(f"volume {name}" for name in cluster.volumes_of(namespaces)),
        *(f"{thing['kind']} {thing['metadata']['name']}" for thing in objects if cluster.has(thing)),
    ]
