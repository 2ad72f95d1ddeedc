"""The network policies of Airflow's namespace and of the tasks' namespace: all traffic is denied unless it is listed.

A DAG's author can give its pods any label but those of Airflow, so task pods are selected by their namespace, and those
of one DAG by the label `dag_id`. Policies are additive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import NetworkPolicySpecArgs

from infra.airflow import pgbouncer
from infra.airflow.egress import create_egress_policy, egress_rule
from infra.airflow_names import (
    API_SERVER_PORT,
    COMPONENT_LABEL,
    COMPONENTS_WITH_DATABASE,
    DAGS_SERVER_PORT,
    MLFLOW_LABELS,
    MLFLOW_PORT,
    NAME_LABEL,
    NAMESPACE_LABEL,
    SERVING_LABELS,
    SERVING_PORT,
)
from infra.airflow_platform import Component, Platform
from infra.dag_declarations import DagDeclaration, Destination, account_name, declarations, model_servers

Spec = dict[str, Any]

STATSD_PORT, METRICS_PORT = 9125, 9102
PGBOUNCER_METRICS_PORT = 9127
GIT_SYNC_METRICS_PORT = 1234
POSTGRES_PORT = 5432
DNS_PORT = 53
# Ports of the Kubernetes API: on EKS and most other clusters, and on clusters made by kubeadm or k3s.
KUBERNETES_PORTS = (443, 6443)
# HTTPS, SSH and the Git protocol; HTTPS and the ports of object stores outside AWS.
GIT_PORTS = (443, 22, 9418)
OBJECT_STORE_PORTS = (443, 4566, 9000)
# https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
POD_IDENTITY = "169.254.170.23/32"

# Values of the chart's label `component`; pods outside the chart have the labels that Kubernetes recommends.
WITH_OBJECT_STORE = ("api-server", "triggerer")
WITH_KUBERNETES = ("scheduler", "api-server")
WITH_GIT_SYNC = (Component.DAG_PROCESSOR.value, "triggerer")
# They send the state of DAG runs, and of tasks that a user changes in the UI; tasks send their own.
WITH_LINEAGE = ("scheduler", "api-server")
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


def peer(pods: Spec | None = None, namespace: pulumi.Input[str] | None = None) -> Spec:
    """Return pods with these labels, of this namespace or of another one; all of its pods without `pods`."""
    of_namespace = {"namespace_selector": {"match_labels": {NAMESPACE_LABEL: namespace}}} if namespace else {}
    return of_namespace | ({"pod_selector": pods} if pods else {})


def egress(*numbers: int, to: Spec | None = None, protocol: str = "TCP") -> Spec:
    """Allow connections to ports, of a peer or, without it, of any destination."""
    rule: Spec = {"ports": ports(*numbers, protocol=protocol)}
    return rule | ({"to": [to]} if to else {})


def ingress(*numbers: int, peers: Sequence[Spec] = (), protocol: str = "TCP") -> Spec:
    """Allow connections to ports, from peers or, without any, from any source."""
    rule: Spec = {"ports": ports(*numbers, protocol=protocol)}
    return rule | ({"from": list(peers)} if peers else {})


DNS: Spec = {"ports": [*ports(DNS_PORT), *ports(DNS_PORT, protocol="UDP")]}
IDENTITY: Spec = {"ports": ports(80), "to": [{"ip_block": {"cidr": POD_IDENTITY}}]}


def git_host(repository: str) -> str:
    """Return the host in the address of a repository: a URL, or `user@host:path`."""
    return urlsplit(repository).hostname or repository.partition(":")[0].rpartition("@")[2]


def git_ports(repository: str) -> list[int]:
    """Return the ports of Git servers, and the port in the address of the repository if it has one."""
    port = urlsplit(repository).port
    return [*GIT_PORTS, *([port] if port and port not in GIT_PORTS else [])]


def airflow_policies(tasks_namespace: pulumi.Input[str], *, pooled: bool) -> Mapping[str, Policy]:
    """Return the policies of Airflow's namespace by name.

    Args:
        tasks_namespace: The namespace of task pods.
        pooled: Whether components reach the database only through PgBouncer.
    """
    api_server, statsd, pool = components("api-server"), components("statsd"), components("pgbouncer")
    with_database = components(*COMPONENTS_WITH_DATABASE)
    tasks = peer(namespace=tasks_namespace)
    database = egress(pgbouncer.PORT, to=peer(pool)) if pooled else egress(POSTGRES_PORT)
    result = {
        "default-deny": Policy({}, incoming=[], outgoing=[]),
        "everything-to-dns": Policy({}, outgoing=[DNS]),
        "airflow-to-metrics": Policy(AIRFLOW, outgoing=[egress(STATSD_PORT, to=peer(statsd), protocol="UDP")]),
        "metrics": Policy(
            statsd, incoming=[ingress(STATSD_PORT, peers=[peer(AIRFLOW), tasks], protocol="UDP"), ingress(METRICS_PORT)]
        ),
        "dags": Policy(components(Component.DAG_PROCESSOR.value), incoming=[ingress(DAGS_SERVER_PORT, peers=[tasks])]),
        "git-sync-metrics": Policy(components(*WITH_GIT_SYNC), incoming=[ingress(GIT_SYNC_METRICS_PORT)]),
        "components-to-database": Policy(with_database, outgoing=[database]),
        "components-to-kubernetes": Policy(components(*WITH_KUBERNETES), outgoing=[egress(*KUBERNETES_PORTS)]),
        "components-to-object-store": Policy(
            components(*WITH_OBJECT_STORE), outgoing=[egress(*OBJECT_STORE_PORTS), IDENTITY]
        ),
        # Users connect from outside the namespace, through an ingress or a forwarded port.
        "api-server": Policy(api_server, incoming=[ingress(API_SERVER_PORT)]),
        # Forwarded ports and the kubelet's probes come from the pod's own node, which no policy can restrict.
        "mlflow": Policy(MLFLOW, incoming=[ingress(MLFLOW_PORT, peers=[tasks, peer(SERVING)])]),
        "mlflow-to-database-and-object-store": Policy(
            MLFLOW, outgoing=[egress(POSTGRES_PORT), egress(*OBJECT_STORE_PORTS), IDENTITY]
        ),
        "serving": Policy(SERVING, incoming=[ingress(SERVING_PORT)]),
        "serving-to-models": Policy(
            SERVING, outgoing=[egress(MLFLOW_PORT, to=peer(MLFLOW)), egress(*OBJECT_STORE_PORTS), IDENTITY]
        ),
    }
    if pooled:
        result |= {
            "pgbouncer": Policy(
                pool, incoming=[ingress(pgbouncer.PORT, peers=[peer(with_database)]), ingress(PGBOUNCER_METRICS_PORT)]
            ),
            "pgbouncer-to-database": Policy(pool, outgoing=[egress(POSTGRES_PORT)]),
        }
    return result


def tasks_policies(airflow_namespace: pulumi.Input[str]) -> Mapping[str, Policy]:
    """Return the policies of the tasks' namespace by name.

    Args:
        airflow_namespace: The namespace of the servers that tasks use.
    """

    def in_airflow(pods: Spec) -> Spec:
        return peer(pods, airflow_namespace)

    return {
        "tasks-default-deny": Policy({}, incoming=[], outgoing=[]),
        "tasks-to-dns": Policy({}, outgoing=[DNS]),
        "tasks": Policy(
            {},
            outgoing=[
                egress(STATSD_PORT, to=in_airflow(components("statsd")), protocol="UDP"),
                egress(API_SERVER_PORT, to=in_airflow(components("api-server"))),
                egress(MLFLOW_PORT, to=in_airflow(MLFLOW)),
                egress(SERVING_PORT, to=in_airflow(SERVING)),
                egress(DAGS_SERVER_PORT, to=in_airflow(components(Component.DAG_PROCESSOR.value))),
                egress(*OBJECT_STORE_PORTS),
                IDENTITY,
                egress(*KUBERNETES_PORTS),
            ],
        ),
    }


def workers_policies(dags: Mapping[str, DagDeclaration]) -> Mapping[str, Policy]:
    """Return the policies for the DAGs whose pods connect to each other, by name; they use any port."""
    result = {}
    for dag_id, dag in dags.items():
        if dag.pods_connect:
            pods: Spec = {"match_labels": {"dag_id": dag_id}}
            rule = {"ports": [{"protocol": "TCP"}]}
            result[f"{account_name(dag_id)}-workers"] = Policy(
                pods, incoming=[{**rule, "from": [peer(pods)]}], outgoing=[{**rule, "to": [peer(pods)]}]
            )
    return result


def _egress_rules(servers: Iterable[Destination], *, names: bool) -> list[Spec]:
    return [egress_rule(server.host, server.ports, names=names) for server in dict.fromkeys(servers)]


class NetworkPolicies(pulumi.ComponentResource):
    """The policies of both namespaces."""

    def __init__(
        self, name: str, platform: Platform, *, pooled: bool, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Create one NetworkPolicy for each entry of `airflow_policies` and `tasks_policies`."""
        super().__init__("airflow:airflow:NetworkPolicies", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        airflow, tasks = platform.namespace, platform.tasks_namespace
        for namespace, policies in (
            (airflow, airflow_policies(tasks, pooled=pooled)),
            (tasks, {**tasks_policies(airflow), **workers_policies(declarations())}),
        ):
            for policy_name, policy in policies.items():
                self._create(policy_name, policy, namespace)
        self._create_egress_policies(platform)
        self.register_outputs({})

    def _create_egress_policies(self, platform: Platform) -> None:
        """Create the policies for the servers of Git, features and lineage, and for what DAGs declare."""
        names = platform.names_in_policies
        git = pulumi.Output.from_input(platform.dags.repository).apply(
            lambda address: [egress_rule(git_host(address), git_ports(address), names=names)]
        )
        with_git_sync = {"matchExpressions": components(*WITH_GIT_SYNC)["match_expressions"]}
        create_egress_policy("components-to-git", with_git_sync, git, platform.namespace, platform, self._child_opts)
        features = platform.features_database.host.apply(lambda host: [egress_rule(host, [POSTGRES_PORT], names=names)])
        create_egress_policy("tasks-to-features", {}, features, platform.tasks_namespace, platform, self._child_opts)
        self._create_server_policies(platform, features)
        if lineage := platform.lineage:
            allowed = [egress_rule(lineage.host, [lineage.port], names=names)]
            senders = {"matchExpressions": components(*WITH_LINEAGE)["match_expressions"]}
            create_egress_policy(
                "components-to-lineage", senders, allowed, platform.namespace, platform, self._child_opts
            )
            create_egress_policy("tasks-to-lineage", {}, allowed, platform.tasks_namespace, platform, self._child_opts)
        dags = declarations()
        for dag_id, dag in dags.items():
            rules = _egress_rules((*dag.egress, *dag.notification_servers), names=names)
            if rules:
                of_dag = {"matchLabels": {"dag_id": dag_id}}
                name = f"{account_name(dag_id)}-egress"
                create_egress_policy(name, of_dag, rules, platform.tasks_namespace, platform, self._child_opts)
        # The triggerer notifies about runs that failed or are late.
        rules = _egress_rules((server for dag in dags.values() for server in dag.notification_servers), names=names)
        if rules:
            triggerer = {"matchLabels": {COMPONENT_LABEL: "triggerer"}}
            name = "triggerer-to-notifications"
            create_egress_policy(name, triggerer, rules, platform.namespace, platform, self._child_opts)

    def _create_server_policies(self, platform: Platform, features: pulumi.Output[list[Spec]]) -> None:
        """Create the policies for what model servers reach: the feature store, and what DAGs declare."""
        servers = model_servers(declarations())
        readers = [server.name for server in servers if server.reads_features]
        if readers:
            of_readers = {
                "matchLabels": SERVING_LABELS,
                "matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": readers}],
            }
            create_egress_policy(
                "serving-to-features", of_readers, features, platform.namespace, platform, self._child_opts
            )
        for server in servers:
            if rules := _egress_rules(server.egress, names=platform.names_in_policies):
                of_server = {"matchLabels": {**SERVING_LABELS, NAME_LABEL: server.name}}
                name = f"{server.name}-egress"
                create_egress_policy(name, of_server, rules, platform.namespace, platform, self._child_opts)

    def _create(self, name: str, policy: Policy, namespace: pulumi.Output[str]) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            name,
            metadata=ObjectMetaArgs(name=name, namespace=namespace),
            spec=NetworkPolicySpecArgs(
                pod_selector=LabelSelectorArgs(**policy.pods),
                policy_types=policy.directions,
                ingress=policy.incoming,
                egress=policy.outgoing,
            ),
            opts=self._child_opts,
        )
