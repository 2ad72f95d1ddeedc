"""The network policies of Airflow's namespace: all traffic is denied unless it is listed here.

Policies are additive: for a DAG that needs more, such as its own database, add a policy for `component: worker`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import NetworkPolicySpecArgs

from infra.airflow import pgbouncer
from infra.airflow_names import (
    API_SERVER_PORT,
    COMPONENT_LABEL,
    MLFLOW_LABELS,
    MLFLOW_PORT,
    SERVING_LABELS,
    SERVING_PORT,
)

Spec = dict[str, Any]

STATSD_PORT, METRICS_PORT = 9125, 9102
PGBOUNCER_METRICS_PORT = 9127
GIT_SYNC_METRICS_PORT = 1234
POSTGRES_PORT = 5432
TRIGGER_LOGS_PORT = 8794
DNS_PORT = 53
# Ports of the Kubernetes API: on EKS and most other clusters, and on clusters made by kubeadm or k3s.
KUBERNETES_PORTS = (443, 6443)
# HTTPS, SSH and the Git protocol; HTTPS and the ports of object stores outside AWS.
GIT_PORTS = (443, 22, 9418)
OBJECT_STORE_PORTS = (443, 4566, 9000)
# https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
POD_IDENTITY = "169.254.170.23/32"

# Values of the chart's label `component`; pods outside the chart have the labels that Kubernetes recommends.
COMPONENTS_WITH_DATABASE = ("scheduler", "api-server", "dag-processor", "triggerer", "run-airflow-migrations")
WITH_OBJECT_STORE = ("api-server", "triggerer", "worker")
WITH_KUBERNETES = ("scheduler", "api-server")
WITH_GIT_SYNC = ("dag-processor", "triggerer")
WITH_GIT = (*WITH_GIT_SYNC, "worker")
AIRFLOW: Spec = {"match_labels": {"tier": "airflow"}}
MLFLOW: Spec = {"match_labels": MLFLOW_LABELS}
SERVING: Spec = {"match_labels": SERVING_LABELS}


def components(*names: str) -> Spec:
    """Return a selector for the pods of Airflow's components."""
    return {"match_expressions": [{"key": COMPONENT_LABEL, "operator": "In", "values": list(names)}]}


def ports(*numbers: int, protocol: str = "TCP") -> list[Spec]:
    """Return ports of one protocol."""
    return [{"port": number, "protocol": protocol} for number in numbers]


@dataclass(frozen=True)
class Policy:
    """A policy for some pods: an empty list denies a direction, None leaves it to other policies."""

    pods: Spec
    incoming: list[Any] | None = None
    outgoing: list[Any] | None = None

    @property
    def directions(self) -> list[str]:
        """The directions that the policy applies to."""
        judged = {"Ingress": self.incoming, "Egress": self.outgoing}
        return [direction for direction, rules in judged.items() if rules is not None]


def egress(*numbers: int, pods: Spec | None = None, protocol: str = "TCP") -> Spec:
    """Allow connections to ports, of pods in this namespace or, without `pods`, of any destination."""
    rule: Spec = {"ports": ports(*numbers, protocol=protocol)}
    return rule | ({"to": [{"pod_selector": pods}]} if pods else {})


def ingress(*numbers: int, pods: Spec | None = None, protocol: str = "TCP") -> Spec:
    """Allow connections to ports, from pods in this namespace or, without `pods`, from any source."""
    rule: Spec = {"ports": ports(*numbers, protocol=protocol)}
    return rule | ({"from": [{"pod_selector": pods}]} if pods else {})


DNS: Spec = {"ports": [*ports(DNS_PORT), *ports(DNS_PORT, protocol="UDP")]}
IDENTITY: Spec = {"ports": ports(80), "to": [{"ip_block": {"cidr": POD_IDENTITY}}]}


def git_ports(repository: str) -> list[int]:
    """Return the ports of Git servers, and the port in the address of the repository if it has one."""
    port = urlsplit(repository).port
    return [*GIT_PORTS, *([port] if port and port not in GIT_PORTS else [])]


def policies(git: pulumi.Input[Sequence[Spec]], *, pooled: bool) -> Mapping[str, Policy]:
    """Return the policies by name.

    Args:
        git: The ports of the Git server.
        pooled: Whether components reach the database only through PgBouncer.
    """
    api_server, triggerer = components("api-server"), components("triggerer")
    statsd, pool = components("statsd"), components("pgbouncer")
    with_database = components(*COMPONENTS_WITH_DATABASE)
    database_port = pgbouncer.PORT if pooled else POSTGRES_PORT
    result = {
        "default-deny": Policy({}, incoming=[], outgoing=[]),
        "everything-to-dns": Policy({}, outgoing=[DNS]),
        "airflow-to-metrics": Policy(AIRFLOW, outgoing=[egress(STATSD_PORT, pods=statsd, protocol="UDP")]),
        "metrics": Policy(statsd, incoming=[ingress(STATSD_PORT, pods=AIRFLOW, protocol="UDP"), ingress(METRICS_PORT)]),
        "git-sync-metrics": Policy(components(*WITH_GIT_SYNC), incoming=[ingress(GIT_SYNC_METRICS_PORT)]),
        "components-to-database": Policy(
            with_database, outgoing=[egress(database_port, pods=pool if pooled else None)]
        ),
        "components-to-kubernetes": Policy(components(*WITH_KUBERNETES), outgoing=[egress(*KUBERNETES_PORTS)]),
        "components-to-git": Policy(components(*WITH_GIT), outgoing=[{"ports": git}]),
        "components-to-object-store": Policy(
            components(*WITH_OBJECT_STORE), outgoing=[egress(*OBJECT_STORE_PORTS), IDENTITY]
        ),
        # Users connect from outside the namespace, through an ingress or a forwarded port.
        "api-server": Policy(api_server, incoming=[ingress(API_SERVER_PORT)]),
        # The log of a waiting trigger is not in the object store yet.
        "api-server-to-trigger-logs": Policy(api_server, outgoing=[egress(TRIGGER_LOGS_PORT, pods=triggerer)]),
        "trigger-logs": Policy(triggerer, incoming=[ingress(TRIGGER_LOGS_PORT, pods=api_server)]),
        "tasks": Policy(
            components("worker"),
            outgoing=[
                egress(API_SERVER_PORT, pods=api_server),
                egress(MLFLOW_PORT, pods=MLFLOW),
                egress(SERVING_PORT, pods=SERVING),
                egress(*KUBERNETES_PORTS),
            ],
        ),
        # Forwarded ports and the kubelet's probes come from the pod's own node, which no policy can restrict.
        "mlflow": Policy(
            MLFLOW,
            incoming=[
                ingress(MLFLOW_PORT, pods=components("worker")),
                ingress(MLFLOW_PORT, pods=SERVING),
            ],
        ),
        "mlflow-to-database-and-object-store": Policy(
            MLFLOW, outgoing=[egress(POSTGRES_PORT), egress(*OBJECT_STORE_PORTS), IDENTITY]
        ),
        "serving": Policy(SERVING, incoming=[ingress(SERVING_PORT)]),
        "serving-to-models": Policy(
            SERVING, outgoing=[egress(MLFLOW_PORT, pods=MLFLOW), egress(*OBJECT_STORE_PORTS), IDENTITY]
        ),
    }
    if pooled:
        result |= {
            "pgbouncer": Policy(
                pool, incoming=[ingress(pgbouncer.PORT, pods=with_database), ingress(PGBOUNCER_METRICS_PORT)]
            ),
            "pgbouncer-to-database": Policy(pool, outgoing=[egress(POSTGRES_PORT)]),
        }
    return result


class NetworkPolicies(pulumi.ComponentResource):
    """The policies of Airflow's namespace."""

    def __init__(
        self,
        name: str,
        namespace: pulumi.Output[str],
        repository: pulumi.Input[str],
        *,
        pooled: bool,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create one NetworkPolicy for each entry of `policies`, for the DAGs in this Git repository."""
        super().__init__("airflow:airflow:NetworkPolicies", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)
        git = pulumi.Output.from_input(repository).apply(lambda address: ports(*git_ports(address)))
        for policy_name, policy in policies(git, pooled=pooled).items():
            kubernetes.networking.v1.NetworkPolicy(
                policy_name,
                metadata=ObjectMetaArgs(name=policy_name, namespace=namespace),
                spec=NetworkPolicySpecArgs(
                    pod_selector=LabelSelectorArgs(**policy.pods),
                    policy_types=policy.directions,
                    ingress=policy.incoming,
                    egress=policy.outgoing,
                ),
                opts=child_opts,
            )
        self.register_outputs({})
