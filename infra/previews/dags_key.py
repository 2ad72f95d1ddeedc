"""The key of a private repository: the base's own, because environments follow branches of the same repository."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_names import DAGS_SECRET
from infra.settings import DagSettings


def copy(dags: DagSettings, source: str, target: pulumi.Output[str], opts: pulumi.ResourceOptions) -> None:
    """Copy the key, if there is one, from the base's namespace to that of the environment's Airflow."""
    if dags.credentials == "none":
        return
    found = kubernetes.core.v1.Secret.get(f"{DAGS_SECRET}-of-base", f"{source}/{DAGS_SECRET}", opts)
    kubernetes.core.v1.Secret(
        DAGS_SECRET, metadata={"name": DAGS_SECRET, "namespace": target}, data=found.data, opts=opts
    )
