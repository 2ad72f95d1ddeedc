"""The peers of network policies: pods in Airflow's namespace, selected by label, and all pods of tasks.

Task pods are selected only by their namespace, because a DAG's author can give them any label.
"""

from collections.abc import Mapping

from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra.airflow_names import COMPONENT_LABEL, NAMESPACE_LABEL, tasks_namespace


def airflow(namespace: str, *components: str) -> NetworkPolicyPeerArgsDict:
    """Return peers for pods of the chart by its label `component`."""
    return {
        "namespace_selector": {"match_labels": {NAMESPACE_LABEL: namespace}},
        "pod_selector": {"match_expressions": [{"key": COMPONENT_LABEL, "operator": "In", "values": list(components)}]},
    }


def labelled(namespace: str, labels: Mapping[str, str]) -> NetworkPolicyPeerArgsDict:
    """Return the peer for pods with these labels."""
    return {
        "namespace_selector": {"match_labels": {NAMESPACE_LABEL: namespace}},
        "pod_selector": {"match_labels": dict(labels)},
    }


def tasks(namespace: str) -> NetworkPolicyPeerArgsDict:
    """Return the peer for the task pods of the Airflow in a namespace."""
    return {"namespace_selector": {"match_labels": {NAMESPACE_LABEL: tasks_namespace(namespace)}}}
