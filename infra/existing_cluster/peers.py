"""The peers of network policies: pods in Airflow's namespace, selected by label."""

from collections.abc import Mapping

from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra.airflow_names import COMPONENT_LABEL

# A label of every namespace: https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def airflow(namespace: str, *components: str) -> NetworkPolicyPeerArgsDict:
    """Return peers for pods of the chart by its label `component`; task pods have the value `worker`."""
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
