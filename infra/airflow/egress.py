"""Network policies for connections to servers that are named: Git, databases, lineage, and `egress` of DAGs."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.airflow_names import NAMESPACE_LABEL
from infra.airflow_platform import Platform

NETWORK_POLICY = ("networking.k8s.io/v1", "NetworkPolicy")
# https://docs.aws.amazon.com/eks/latest/userguide/auto-net-pol.html
APPLICATION_NETWORK_POLICY = ("networking.k8s.aws/v1alpha1", "ApplicationNetworkPolicy")


def create_egress_policy(
    name: str,
    pods: dict[str, Any],
    rules: pulumi.Input[Sequence[Any]],
    namespace: pulumi.Output[str],
    platform: Platform,
    opts: pulumi.ResourceOptions,
) -> None:
    """Create a policy of the kind that the platform has.

    Args:
        name: Its name.
        pods: The selector of the pods.
        rules: What they may connect to, from `egress_rule`.
        namespace: The namespace of the pods.
        platform: The platform.
        opts: The options of the resource.
    """
    api_version, kind = APPLICATION_NETWORK_POLICY if platform.names_in_policies else NETWORK_POLICY
    kubernetes.apiextensions.CustomResource(
        name,
        api_version=api_version,
        kind=kind,
        metadata=ObjectMetaArgs(name=name, namespace=namespace),
        spec={"podSelector": pods, "policyTypes": ["Egress"], "egress": rules},
        opts=opts,
    )


def egress_rule(host: str, ports: Sequence[int], *, names: bool) -> dict[str, Any]:
    """Return the rule that allows connections to a server.

    Args:
        host: A DNS name, an address or a range of addresses; `<service>.<namespace>.svc` is any pod of the namespace.
        ports: TCP ports.
        names: Whether policies can name servers; otherwise the ports of a named server are open to all addresses.
    """
    rule: dict[str, Any] = {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}
    if addresses := _addresses(host):
        return rule | {"to": [{"ipBlock": {"cidr": addresses}}]}
    if host.endswith(".svc"):
        return rule | {"to": [{"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: host.split(".")[-2]}}}]}
    return rule | ({"to": [{"domainNames": [host]}]} if names else {})


def _addresses(host: str) -> str | None:
    try:
        return str(ip_network(host))
    except ValueError:
        return None
