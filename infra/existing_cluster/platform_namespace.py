"""The namespace of the servers that Airflow uses; all traffic is denied unless a server's policy allows it."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_namespace import POD_SECURITY


class PlatformNamespace(pulumi.ComponentResource):
    """The namespace.

    Attributes:
        name: Its name.
    """

    name: pulumi.Output[str]

    def __init__(self, name: str, namespace: str, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the namespace and the policy that denies all traffic in it."""
        super().__init__("airflow:existing_cluster:PlatformNamespace", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)

        self.name = self._create_namespace(namespace)
        self._create_default_deny()

        self.register_outputs({"name": self.name})

    def _create_namespace(self, namespace: str) -> pulumi.Output[str]:
        made = kubernetes.core.v1.Namespace(
            "platform", metadata={"name": namespace, "labels": POD_SECURITY}, opts=self._child_opts
        )
        return made.metadata.name.apply(str)

    def _create_default_deny(self) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            "default-deny",
            metadata={"name": "default-deny", "namespace": self.name},
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=self._child_opts,
        )
