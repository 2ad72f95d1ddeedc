"""The key of a private repository: the base's own, because environments follow branches of the same repository."""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_names import DAGS_SECRET
from infra.settings import DagSettings


def copy(dags: DagSettings, source: str, targets: Sequence[pulumi.Output[str]], opts: pulumi.ResourceOptions) -> None:
    """Copy the key, if there is one, from the base's namespace to those of the environment's Airflow and tasks."""
    if dags.credentials == "none":
        return
    found = kubernetes.core.v1.Secret.get(f"{DAGS_SECRET}-of-base", f"{source}/{DAGS_SECRET}", opts)
    for resource, target in zip((DAGS_SECRET, f"tasks-{DAGS_SECRET}"), targets, strict=True):
        kubernetes.core.v1.Secret(
            resource, metadata={"name": DAGS_SECRET, "namespace": target}, data=found.data, opts=opts
        )
