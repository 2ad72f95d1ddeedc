"""Find the Kubernetes object that an interrupted creation may have left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.kubernetes.cluster import Cluster
from ops.pulumi.pending import Created


def look_up_object(cluster: Cluster, type_: str, inputs: Mapping[str, Any]) -> list[Created]:
    """Return the Kubernetes object with the inputs of a creation, if it exists.

    Raises:
        OperationError: The request to the cluster failed.
    """
    if not type_.startswith("kubernetes:") or not cluster.has(inputs):
        return []
    metadata = inputs["metadata"]
    return [Created("/".join(filter(None, (metadata.get("namespace"), metadata["name"]))))]
