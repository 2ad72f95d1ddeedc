"""Permissions in the cluster: what service accounts may do through the Kubernetes API, and where DAGs connect to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.airflow.egress import APPLICATION_NETWORK_POLICY, NETWORK_POLICY
from infra.airflow_names import COMPONENT_LABEL
from infra.airflow_platform import Component
from infra.dag_declarations import account_name
from ops.plan.grants import Grant
from ops.plan.resources import Recording

RBAC = "kubernetes:rbac.authorization.k8s.io/v1"
EGRESS = tuple(f"kubernetes:{version}:{kind}" for version, kind in (NETWORK_POLICY, APPLICATION_NETWORK_POLICY))


def grants(recording: Recording) -> Iterator[Grant]:
    """Yield what the roles and the egress policies of service accounts allow."""
    yield from _of_roles(recording)
    yield from _of_egress(recording)


def _of_roles(recording: Recording) -> Iterator[Grant]:
    roles = {role.inputs["metadata"]["name"]: role for role in recording.of_type(f"{RBAC}:Role")}
    for binding in recording.of_type(f"{RBAC}:RoleBinding"):
        role = roles[binding.inputs["roleRef"]["name"]]
        namespace = role.inputs["metadata"]["namespace"]
        for rule in role.inputs["rules"]:
            names = [f"/{name}" for name in rule.get("resourceNames") or ()] or [""]
            resources = tuple(f"{kind}{name} in {namespace}" for kind in rule["resources"] for name in names)
            for account in binding.inputs["subjects"]:
                yield Grant(account["name"], "Allow", tuple(rule["verbs"]), resources, (), role.name)


def _of_egress(recording: Recording) -> Iterator[Grant]:
    for policy in recording.of_type(*EGRESS):
        if who := _account(policy.inputs["spec"]["podSelector"].get("matchLabels", {})):
            for rule in policy.inputs["spec"].get("egress") or ():
                ports = [port.get("port", "any port") for port in rule["ports"]]
                servers = [server for peer in rule.get("to", [{}]) for server in _servers(peer)]
                resources = tuple(f"{server}:{port}" for server in servers for port in ports)
                yield Grant(who, "Allow", ("connect",), resources, (), policy.name)


def _account(labels: Mapping[str, str]) -> str | None:
    """Return the service account of the pods of a DAG or of one component."""
    if dag_id := labels.get("dag_id"):
        return account_name(dag_id)
    component = labels.get(COMPONENT_LABEL)
    return Component(component).service_account if component else None


def _servers(peer: Mapping[str, Any]) -> list[str]:
    if "ipBlock" in peer:
        return [peer["ipBlock"]["cidr"]]
    if "namespaceSelector" in peer:
        return [f"pods in {namespace}" for namespace in peer["namespaceSelector"]["matchLabels"].values()]
    if "podSelector" in peer:
        return [f"pods of {peer['podSelector']['matchLabels']['dag_id']}"]
    return [*peer.get("domainNames", ["any address"])]
