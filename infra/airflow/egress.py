"""The network policy for the servers that a DAG declares as `egress` in dag.yaml."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.airflow_platform import Platform
from infra.dag_declarations import Destination, account_name

NETWORK_POLICY = ("networking.k8s.io/v1", "NetworkPolicy")
# https://docs.aws.amazon.com/eks/latest/userguide/auto-net-pol.html
APPLICATION_NETWORK_POLICY = ("networking.k8s.aws/v1alpha1", "ApplicationNetworkPolicy")


def create_egress_policy(
    dag_id: str, servers: Sequence[Destination], platform: Platform, opts: pulumi.ResourceOptions
) -> None:
    """Create a policy of the kind that the platform has for the tasks of a DAG."""
    names = platform.names_in_policies
    api_version, kind = APPLICATION_NETWORK_POLICY if names else NETWORK_POLICY
    name = f"{account_name(dag_id)}-egress"
    kubernetes.apiextensions.CustomResource(
        name,
        api_version=api_version,
        kind=kind,
        metadata=ObjectMetaArgs(name=name, namespace=platform.tasks_namespace),
        spec=egress_policy(dag_id, servers, names=names),
        opts=opts,
    )


def egress_policy(dag_id: str, servers: Sequence[Destination], *, names: bool) -> dict[str, Any]:
    """Return the spec of the policy.

    Args:
        dag_id: The DAG.
        servers: What it declares.
        names: Whether the policy can name servers; otherwise the ports of a named server are open to all addresses.
    """
    return {
        "podSelector": {"matchLabels": {"dag_id": dag_id}},
        "policyTypes": ["Egress"],
        "egress": [_rule(server, names=names) for server in servers],
    }


def _rule(server: Destination, *, names: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {"ports": [{"port": port, "protocol": "TCP"} for port in server.ports]}
    if server.is_range:
        return rule | {"to": [{"ipBlock": {"cidr": server.host}}]}
    return rule | ({"to": [{"domainNames": [server.host]}]} if names else {})
