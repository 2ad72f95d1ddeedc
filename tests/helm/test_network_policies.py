"""The network policies, evaluated as a cluster enforces them."""

from typing import Any

import pytest

from infra.airflow.network_policies import git_ports
from ml_common import serving_manifests
from ops.plan.manifests import Object

from .conftest import of_kind

Objects = tuple[Object, ...]

POSTGRES, PGBOUNCER = 5432, 6543


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
        if policy["kind"] == "NetworkPolicy"
        and policy["metadata"]["namespace"] == namespace
        and matches(policy["spec"]["podSelector"], labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    assert found, f"{labels} may do anything: no policy holds for it"
    key = direction.lower()
    return [rule for spec in found for rule in spec.get(key) or []]


def airflow(component: str) -> dict[str, str]:
    return {"tier": "airflow", "component": component, "release": "airflow"}


def ports_out(objects: Objects, labels: dict[str, str]) -> set[int]:
    rules = judged(objects, "airflow", labels, "Egress")
    return {port["port"] for rule in rules for port in rule["ports"]}


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


@pytest.mark.parametrize("component", ["dag-processor", "triggerer", "worker"])
def test_pods_that_fetch_dags_reach_git(objects: Objects, component: str) -> None:
    assert set(git_ports("")) <= ports_out(objects, airflow(component))


def test_a_task_cannot_reach_the_database(objects: Objects) -> None:
    assert not ports_out(objects, airflow("worker")) & {POSTGRES, PGBOUNCER}


@pytest.mark.parametrize("component", ["scheduler", "api-server", "dag-processor", "triggerer"])
def test_components_reach_the_database(stack: str, objects: Objects, component: str) -> None:
    port = PGBOUNCER if "airflow-pgbouncer" in of_kind(objects, "Deployment") else POSTGRES
    assert port in ports_out(objects, airflow(component))


def test_only_components_that_need_it_reach_the_local_database(stack: str, objects: Objects) -> None:
    if stack != "local":
        pytest.skip("the database is not in the cluster")
    labels = of_kind(objects, "StatefulSet")["postgres"]["spec"]["template"]["metadata"]["labels"]
    rules = judged(objects, "airflow-platform", labels, "Ingress")
    peers = [peer for rule in rules for peer in rule["from"]]

    def admitted(pod: dict[str, str]) -> bool:
        return any(matches(peer.get("podSelector", {}), pod) for peer in peers)

    assert admitted(airflow("scheduler"))
    assert admitted(airflow("run-airflow-migrations"))
    assert not admitted(airflow("worker"))


def test_a_task_reaches_the_execution_api_the_registry_and_the_model_server(objects: Objects) -> None:
    assert ports_out(objects, airflow("worker")) >= {8080, 5000, 9125, 443}


@pytest.mark.parametrize("component", ["scheduler", "worker"])
def test_pods_that_serve_nothing_accept_no_connections(objects: Objects, component: str) -> None:
    assert judged(objects, "airflow", airflow(component), "Ingress") == []


def test_only_tasks_and_the_model_server_may_call_the_model_registry(objects: Objects) -> None:
    labels = of_kind(objects, "Deployment")["mlflow"]["spec"]["template"]["metadata"]["labels"]
    rules = judged(objects, "airflow", labels, "Ingress")
    assert {port["port"] for rule in rules for port in rule["ports"]} == {5000}
    peers = [peer for rule in rules for peer in rule["from"]]
    assert not any("namespaceSelector" in peer or "ipBlock" in peer for peer in peers)

    def admitted(pod: dict[str, str]) -> bool:
        return any(matches(peer["podSelector"], pod) for peer in peers)

    assert admitted(airflow("worker"))
    assert admitted(dict(serving_manifests.COMPONENT))
    assert not any(admitted(airflow(each)) for each in ("scheduler", "api-server", "dag-processor", "triggerer"))
    assert not admitted({"app": "unknown"})
    assert not admitted({})
