"""The network policies, evaluated as a cluster enforces them."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.airflow.egress import egress_rule
from infra.airflow.network_policies import git_host, git_ports
from ml_common import serving_manifests
from ops.plan.manifests import Object

from .conftest import of_kind

Objects = tuple[Object, ...]

POSTGRES, PGBOUNCER = 5432, 6543
NAME_LABEL = "kubernetes.io/metadata.name"


def matches(selector: Any, labels: dict[str, str]) -> bool:
    """Evaluate a label selector; an empty one matches everything."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", [])
    )


def judged(objects: Objects, namespace: str, labels: dict[str, str], direction: str) -> list[Any]:
    """Return the rules of one direction that apply to a pod; at least one policy must select it."""
    found = [
        policy["spec"]
        for policy in objects
        if policy["kind"] in ("NetworkPolicy", "ApplicationNetworkPolicy")
        and policy["metadata"]["namespace"] == namespace
        and matches(policy["spec"]["podSelector"], labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    assert found, f"{labels} may do anything: no policy holds for it"
    key = direction.lower()
    return [rule for spec in found for rule in spec.get(key) or []]


def admitted(rules: list[Any], namespace: str, pod: dict[str, str], origin: str) -> bool:
    """Return whether rules for incoming traffic of pods in a namespace admit a pod of the namespace `origin`."""
    return any(
        matches(peer.get("namespaceSelector", {"matchLabels": {NAME_LABEL: namespace}}), {NAME_LABEL: origin})
        and matches(peer.get("podSelector", {}), pod)
        for rule in rules
        for peer in rule["from"]
    )


def airflow(component: str) -> dict[str, str]:
    return {"tier": "airflow", "component": component, "release": "airflow"}


def ports_out(objects: Objects, labels: dict[str, str], namespace: str = "airflow") -> set[int]:
    rules = judged(objects, namespace, labels, "Egress")
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_every_service_has_the_port_of_its_container(objects: Objects) -> None:
    # https://docs.aws.amazon.com/eks/latest/userguide/cni-network-policy.html#cni-network-policy-considerations
    services = of_kind(objects, "Service")
    assert services
    for name, service in services.items():
        [template] = [
            item["spec"]["template"]
            for item in objects
            if item["kind"] in ("Deployment", "StatefulSet")
            and matches({"matchLabels": service["spec"]["selector"]}, item["spec"]["template"]["metadata"]["labels"])
        ]
        opened = [port for container in template["spec"]["containers"] for port in container.get("ports", [])]
        numbers = {port["name"]: port["containerPort"] for port in opened if "name" in port}
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            assert numbers.get(target, target) == port["port"], name


def test_an_unknown_pod_may_only_resolve_names(objects: Objects) -> None:
    assert ports_out(objects, {"app": "unknown"}) == {53}
    assert judged(objects, "airflow", {"app": "unknown"}, "Ingress") == []


@pytest.mark.parametrize(
    ("repository", "ports"),
    [
        ("https://github.com/a/b", [443, 22, 9418]),
        ("git@github.com:a/b.git", [443, 22, 9418]),
        ("https://git.example:8443/a/b", [443, 22, 9418, 8443]),
        ("ssh://git@git.example:2222/a/b", [443, 22, 9418, 2222]),
        ("git://git.airflow-platform/dags.git", [443, 22, 9418]),
    ],
)
def test_git_is_reached_on_the_usual_ports_and_on_the_one_in_its_address(repository: str, ports: list[int]) -> None:
    assert git_ports(repository) == ports


@pytest.mark.parametrize(
    ("repository", "host"),
    [
        ("https://user@github.com/a/b", "github.com"),
        ("git@github.com:a/b.git", "github.com"),
        ("ssh://git@git.example:2222/a/b", "git.example"),
        ("git://git.airflow-platform.svc/dags.git", "git.airflow-platform.svc"),
    ],
)
def test_the_host_of_a_repository_is_in_its_address(repository: str, host: str) -> None:
    assert git_host(repository) == host


@pytest.mark.parametrize(
    ("host", "names", "to"),
    [
        ("github.com", True, {"domainNames": ["github.com"]}),
        ("github.com", False, None),
        ("198.51.100.0/24", True, {"ipBlock": {"cidr": "198.51.100.0/24"}}),
        ("198.51.100.7", False, {"ipBlock": {"cidr": "198.51.100.7/32"}}),
        ("db.analytics.svc", True, {"namespaceSelector": {"matchLabels": {NAME_LABEL: "analytics"}}}),
    ],
)
def test_a_rule_is_as_narrow_as_the_kind_of_policy_allows(host: str, names: bool, to: object) -> None:
    rule = egress_rule(host, [443], names=names)
    assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]
    assert rule.get("to") == ([to] if to else None)


@pytest.mark.parametrize("component", ["dag-processor", "triggerer"])
def test_pods_that_fetch_dags_reach_git(objects: Objects, component: str) -> None:
    assert set(git_ports("")) <= ports_out(objects, airflow(component))


def test_the_code_that_the_dag_processor_parses_reaches_only_the_database_metrics_and_the_git_server(
    stack: str, objects: Objects
) -> None:
    rules = judged(objects, "airflow", airflow("dag-processor"), "Egress")
    reached = {(json.dumps(rule.get("to")), port["port"]) for rule in rules for port in rule["ports"]}
    git: Any = [{"namespaceSelector": {"matchLabels": {NAME_LABEL: "airflow-platform"}}}]
    if stack != "local":
        git = [{"domainNames": ["github.com"]}]
    assert {port for to, port in reached if to == json.dumps(git)} >= set(git_ports(""))
    assert {port for to, port in reached if to != json.dumps(git)} <= {53, 9125, POSTGRES, PGBOUNCER}


# The labels that a DAG's author can give its task: its own, and those of any server.
WORN = [
    *map(airflow, ("worker", "scheduler", "api-server", "pgbouncer")),
    {"app.kubernetes.io/name": "mlflow"},
    dict(serving_manifests.COMPONENT),
    {"app.kubernetes.io/name": "database-setup"},
    {},
]


@pytest.mark.parametrize("labels", WORN)
def test_a_task_reaches_one_database_server_that_of_its_features_whatever_its_labels(
    stack: str, objects: Objects, labels: dict[str, str]
) -> None:
    address = of_kind(objects, "Secret")["features-database"]["stringData"]["AIRFLOW_CONN_FEATURES"]
    host = urlsplit(address).hostname
    server: Any = {"domainNames": [host]}
    if stack == "local":
        assert host == "postgres.airflow-platform.svc"
        server = {"namespaceSelector": {"matchLabels": {NAME_LABEL: "airflow-platform"}}}
    rules = judged(objects, "airflow-tasks", labels, "Egress")
    to_databases = [rule for rule in rules if {port["port"] for port in rule["ports"]} & {POSTGRES, PGBOUNCER}]
    assert to_databases == [{"to": [server], "ports": [{"port": POSTGRES, "protocol": "TCP"}]}]


@pytest.mark.parametrize("labels", WORN)
def test_the_connection_pool_admits_no_task_whatever_its_labels(objects: Objects, labels: dict[str, str]) -> None:
    rules = judged(objects, "airflow", airflow("pgbouncer"), "Ingress")
    assert not admitted(
        [rule for rule in rules if rule["ports"][0]["port"] != 9127], "airflow", labels, "airflow-tasks"
    )


@pytest.mark.parametrize("labels", WORN)
def test_a_task_has_the_same_rights_whatever_its_labels(objects: Objects, labels: dict[str, str]) -> None:
    assert ports_out(objects, labels, "airflow-tasks") == ports_out(objects, {}, "airflow-tasks")
    assert judged(objects, "airflow-tasks", labels, "Ingress") == []


@pytest.mark.parametrize("component", ["scheduler", "api-server", "dag-processor", "triggerer", "database-cleanup"])
def test_components_reach_the_database(stack: str, objects: Objects, component: str) -> None:
    port = PGBOUNCER if "airflow-pgbouncer" in of_kind(objects, "Deployment") else POSTGRES
    assert port in ports_out(objects, airflow(component))


def test_only_components_that_need_it_reach_the_local_database(stack: str, objects: Objects) -> None:
    if stack != "local":
        pytest.skip("the database is not in the cluster")
    labels = of_kind(objects, "StatefulSet")["postgres"]["spec"]["template"]["metadata"]["labels"]
    rules = judged(objects, "airflow-platform", labels, "Ingress")
    assert admitted(rules, "airflow-platform", airflow("scheduler"), "airflow")
    assert admitted(rules, "airflow-platform", airflow("run-airflow-migrations"), "airflow")
    assert admitted(rules, "airflow-platform", airflow("database-cleanup"), "airflow")
    assert admitted(rules, "airflow-platform", airflow("worker"), "airflow-tasks")
    assert not admitted(rules, "airflow-platform", airflow("scheduler"), "default")
    assert not admitted(rules, "airflow-platform", airflow("worker"), "default-tasks")
    assert not admitted(rules, "airflow-platform", airflow("statsd"), "airflow")


def test_a_task_reaches_the_execution_api_the_dags_the_registry_and_the_model_server(objects: Objects) -> None:
    assert ports_out(objects, airflow("worker"), "airflow-tasks") >= {8080, 8800, 5000, 9125, 443}
    reached = {
        (to["namespaceSelector"]["matchLabels"][NAME_LABEL], port["port"])
        for rule in judged(objects, "airflow-tasks", {}, "Egress")
        for to in rule.get("to", [])
        if "podSelector" in to
        for port in rule["ports"]
    }
    assert reached == {("airflow", port) for port in (8080, 8800, 5000, 9125)}


def test_only_tasks_reach_the_server_of_the_dags_and_they_reach_no_port_of_git(objects: Objects) -> None:
    [rule] = [rule for rule in judged(objects, "airflow", airflow("dag-processor"), "Ingress")
              if rule["ports"] == [{"port": 8800, "protocol": "TCP"}]]  # fmt: skip
    assert admitted([rule], "airflow", airflow("worker"), "airflow-tasks")
    assert not admitted([rule], "airflow", airflow("worker"), "default")
    assert not admitted([rule], "airflow", airflow("scheduler"), "airflow")
    assert not {22, 9418} & ports_out(objects, airflow("worker"), "airflow-tasks")


def test_the_exporter_takes_the_metrics_of_airflow_and_of_tasks(objects: Objects) -> None:
    [rule] = [rule for rule in judged(objects, "airflow", airflow("statsd"), "Ingress")
              if rule["ports"] == [{"port": 9125, "protocol": "UDP"}]]  # fmt: skip
    assert admitted([rule], "airflow", airflow("scheduler"), "airflow")
    assert admitted([rule], "airflow", airflow("worker"), "airflow-tasks")
    assert not admitted([rule], "airflow", airflow("worker"), "default")


def test_a_pod_that_serves_nothing_accepts_no_connections(objects: Objects) -> None:
    assert judged(objects, "airflow", airflow("scheduler"), "Ingress") == []


def test_only_tasks_and_the_model_server_may_call_the_model_registry(objects: Objects) -> None:
    labels = of_kind(objects, "Deployment")["mlflow"]["spec"]["template"]["metadata"]["labels"]
    rules = judged(objects, "airflow", labels, "Ingress")
    assert {port["port"] for rule in rules for port in rule["ports"]} == {5000}

    assert admitted(rules, "airflow", airflow("worker"), "airflow-tasks")
    assert admitted(rules, "airflow", dict(serving_manifests.COMPONENT), "airflow")
    for component in ("scheduler", "api-server", "dag-processor", "triggerer"):
        assert not admitted(rules, "airflow", airflow(component), "airflow")
    for pod in ({"app": "unknown"}, {}):
        assert not admitted(rules, "airflow", pod, "airflow")
    for pod in (dict(serving_manifests.COMPONENT), airflow("worker")):
        assert not admitted(rules, "airflow", pod, "default")


def test_only_a_model_server_that_declares_it_reaches_the_feature_store(objects: Objects) -> None:
    labels = {"app.kubernetes.io/component": "serving"}
    assert POSTGRES in ports_out(objects, {**labels, "app.kubernetes.io/name": "docs-answers"})
    assert POSTGRES not in ports_out(objects, {**labels, "app.kubernetes.io/name": "flight-delays"})
    assert POSTGRES not in ports_out(objects, {"app.kubernetes.io/name": "docs-answers"})
