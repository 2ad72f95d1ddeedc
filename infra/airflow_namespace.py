"""The namespaces of Airflow and of its tasks, on every platform."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_names import NAMESPACE, tasks_namespace

# https://kubernetes.io/docs/concepts/security/pod-security-admission/
POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def create(name: str, opts: pulumi.ResourceOptions) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
    """Create both with Pod Security level `restricted`, and return the names of Airflow's and of the tasks'."""
    names = {NAMESPACE: name, tasks_namespace(NAMESPACE): tasks_namespace(name)}
    airflow, tasks = (
        kubernetes.core.v1.Namespace(resource, metadata={"name": given, "labels": POD_SECURITY}, opts=opts)
        for resource, given in names.items()
    )
    return airflow.metadata.name.apply(str), tasks.metadata.name.apply(str)
