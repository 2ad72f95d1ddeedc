"""Who may speak to whom in Airflow's namespace: nobody, but for what is listed here.

Policies add up: a DAG that needs more, such as a database of its own, gets a policy of its own for `component: worker`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import NetworkPolicySpecArgs

from infra.airflow import pgbouncer

Spec = dict[str, Any]

API_SERVER_PORT = 8080
STATSD_PORT, METRICS_PORT = 9125, 9102
PGBOUNCER_METRICS_PORT = 9127
GIT_SYNC_METRICS_PORT = 1234
POSTGRES_PORT = 5432
TRIGGER_LOGS_PORT = 8794
MLFLOW_PORT = 5000
SERVING_PORT = 8080
DNS_PORT = 53
# Of the cluster's own API: on EKS and most others, and where kubeadm or k3s made the cluster.
KUBERNETES_PORTS = (443, 6443)
# HTTPS, SSH, and the protocol of Git itself; ports of object stores that are not AWS'.
GIT_PORTS = (443, 22, 9418)
OBJECT_STORE_PORTS = (443, 4566, 9000)
# https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
POD_IDENTITY = "169.254.170.23/32"

# The label that the chart gives to the pods of each of Airflow's components; the others have the recommended labels.
COMPONENTS_WITH_DATABASE = ("scheduler", "api-server", "dag-processor", "triggerer", "run-airflow-migrations")
WITH_OBJECT_STORE = ("api-server", "triggerer", "worker")
WITH_KUBERNETES = ("scheduler", "api-server")
WITH_GIT_SYNC = ("dag-processor", "triggerer")
WITH_GIT = (*WITH_GIT_SYNC, "worker")
AIRFLOW: Spec = {"match_labels": {"tier": "airflow"}}
MLFLOW: Spec = {"match_labels": {"app.kubernetes.io/name": "mlflow"}}
SERVING: Spec = {"match_labels": {"app.kubernetes.io/component": "serving"}}


def components(*names: str) -> Spec:
    """Select pods of Airflow by what they are."""
    return {"match_expressions": [{"key": "component", "operator": "In", "values": list(names)}]}


def ports(*numbers: int, protocol: str = "TCP") -> list[Spec]:
    """Name ports of one protocol."""
    return [{"port": number, "protocol": protocol} for number in numbers]


@dataclass(frozen=True)
class Policy:
    """What some pods may do, as the API says it; a direction without rules is shut, None is not judged."""

    pods: Spec
    incoming: list[Any] | None = None
    outgoing: list[Any] | None = None

    @property
    def directions(self) -> list[str]:
        """The directions that the policy judges."""
        judged = {"Ingress": self.incoming, "Egress": self.outgoing}
        return [direction for direction, rules in judged.items() if rules is not None]


def out(*numbers: int, pods: Spec | None = None, protocol: str = "TCP") -> Spec:
    """Allow connections to ports, of pods of this namespace or of anything."""
    rule: Spec = {"ports": ports(*numbers, protocol=protocol)}
    return rule | ({"to": [{"pod_selector": pods}]} if pods else {})


def into(*numbers: int, pods: Spec | None = None, protocol: str = "TCP") -> Spec:
    """Allow connections from pods of this namespace, or from anything."""
    rule: Spec = {"ports": ports(*numbers, protocol=protocol)}
    return rule | ({"from": [{"pod_selector": pods}]} if pods else {})


DNS: Spec = {"ports": [*ports(DNS_PORT), *ports(DNS_PORT, protocol="UDP")]}
IDENTITY: Spec = {"ports": ports(80), "to": [{"ip_block": {"cidr": POD_IDENTITY}}]}


def policies(*, pooled: bool) -> Mapping[str, Policy]:
    """Return the policies by name; `pooled`: components reach the database through PgBouncer alone."""
    api_server, triggerer = components("api-server"), components("triggerer")
    statsd, pool = components("statsd"), components("pgbouncer")
    with_database = components(*COMPONENTS_WITH_DATABASE)
    database_port = pgbouncer.PORT if pooled else POSTGRES_PORT
    result = {
        "default-deny": Policy({}, incoming=[], outgoing=[]),
        "everything-to-dns": Policy({}, outgoing=[DNS]),
        "airflow-to-metrics": Policy(AIRFLOW, outgoing=[out(STATSD_PORT, pods=statsd, protocol="UDP")]),
        "metrics": Policy(statsd, incoming=[into(STATSD_PORT, pods=AIRFLOW, protocol="UDP"), into(METRICS_PORT)]),
        "git-sync-metrics": Policy(components(*WITH_GIT_SYNC), incoming=[into(GIT_SYNC_METRICS_PORT)]),
        "components-to-database": Policy(with_database, outgoing=[out(database_port, pods=pool if pooled else None)]),
        "components-to-kubernetes": Policy(components(*WITH_KUBERNETES), outgoing=[out(*KUBERNETES_PORTS)]),
        "components-to-git": Policy(components(*WITH_GIT), outgoing=[out(*GIT_PORTS)]),
        "components-to-object-store": Policy(
            components(*WITH_OBJECT_STORE), outgoing=[out(*OBJECT_STORE_PORTS), IDENTITY]
        ),
        # Its user comes through the cluster's door, whichever that is: an ingress, or a forwarded port.
        "api-server": Policy(api_server, incoming=[into(API_SERVER_PORT)]),
        # The log of a trigger that waits is not in the object store yet.
        "api-server-to-trigger-logs": Policy(api_server, outgoing=[out(TRIGGER_LOGS_PORT, pods=triggerer)]),
        "trigger-logs": Policy(triggerer, incoming=[into(TRIGGER_LOGS_PORT, pods=api_server)]),
        "tasks": Policy(
            components("worker"),
            outgoing=[
                out(API_SERVER_PORT, pods=api_server),
                out(MLFLOW_PORT, pods=MLFLOW),
                out(SERVING_PORT, pods=SERVING),
                out(*KUBERNETES_PORTS),
            ],
        ),
        # A forwarded port and the kubelet's probes come from the pod's own node, which no policy judges.
        "mlflow": Policy(
            MLFLOW, incoming=[into(MLFLOW_PORT, pods=components("worker")), into(MLFLOW_PORT, pods=SERVING)]
        ),
        "mlflow-to-database-and-object-store": Policy(
            MLFLOW, outgoing=[out(POSTGRES_PORT), out(*OBJECT_STORE_PORTS), IDENTITY]
        ),
        "serving": Policy(SERVING, incoming=[into(SERVING_PORT)]),
        "serving-to-models": Policy(
            SERVING, outgoing=[out(MLFLOW_PORT, pods=MLFLOW), out(*OBJECT_STORE_PORTS), IDENTITY]
        ),
    }
    if pooled:
        result |= {
            "pgbouncer": Policy(
                pool, incoming=[into(pgbouncer.PORT, pods=with_database), into(PGBOUNCER_METRICS_PORT)]
            ),
            "pgbouncer-to-database": Policy(pool, outgoing=[out(POSTGRES_PORT)]),
        }
    return result


class NetworkPolicies(pulumi.ComponentResource):
    """The policies of Airflow's namespace."""

    def __init__(
        self,
        name: str,
        namespace: pulumi.Output[str],
        *,
        pooled: bool,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them."""
        super().__init__("airflow:airflow:NetworkPolicies", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)
        for policy_name, policy in policies(pooled=pooled).items():
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
