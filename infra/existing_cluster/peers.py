"""Who is meant by the rules about connections: pods of Airflow's namespace, by their labels."""

from collections.abc import Mapping

from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

# Of every namespace: https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name
NAMESPACE_LABEL = "kubernetes.io/metadata.name"

MLFLOW = {"app.kubernetes.io/name": "mlflow"}
SERVING = {"app.kubernetes.io/component": "serving"}


def airflow(namespace: str, *components: str) -> NetworkPolicyPeerArgsDict:
    """Return pods of the chart, by the values of its label `component`; a task's pod is a `worker`."""
    return {
        "namespace_selector": {"match_labels": {NAMESPACE_LABEL: namespace}},
        "pod_selector": {"match_expressions": [{"key": "component", "operator": "In", "values": list(components)}]},
    }


def labelled(namespace: str, labels: Mapping[str, str]) -> NetworkPolicyPeerArgsDict:
    """Return pods by their labels."""
    return {
        "namespace_selector": {"match_labels": {NAMESPACE_LABEL: namespace}},
        "pod_selector": {"match_labels": dict(labels)},
    }
