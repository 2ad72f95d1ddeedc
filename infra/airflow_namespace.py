"""The namespace that Airflow runs in, on every platform."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_names import NAMESPACE

# https://kubernetes.io/docs/concepts/security/pod-security-admission/
POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def create(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """Create the namespace with Pod Security level `restricted` and return its name."""
    namespace = kubernetes.core.v1.Namespace(NAMESPACE, metadata={"name": name, "labels": POD_SECURITY}, opts=opts)
    return namespace.metadata.name.apply(str)
