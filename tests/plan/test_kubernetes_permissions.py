"""Permissions in the cluster, as `make plan` shows them."""

import pytest

from infra.airflow import network_policies
from infra.aws import platform
from infra.dag_declarations import DagDeclaration, Destination, Notification
from ops.plan.kubernetes_permissions import grants
from ops.plan.permissions import matrix
from ops.plan.recording import record
from ops.plan.resources import Recording

WAREHOUSE = Destination(host="warehouse.example.com", ports=(5432, 5433))
OFFICE = Destination(host="198.51.100.0/24", ports=(22,))


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the DAG `churn` connect to servers outside the stack."""
    dags = {"churn": DagDeclaration(egress=(WAREHOUSE, OFFICE)), "quiet": DagDeclaration()}
    monkeypatch.setattr(network_policies, "declarations", lambda: dags)


def test_the_rights_of_a_dag_that_serves_are_in_the_matrix_of_every_platform(recording: Recording) -> None:
    _, rows = matrix(recording)
    assert rows["dag-image-classifier"]["deployments/image-classifier in airflow"] == ["create", "get", "patch"]
    assert "pods in airflow-tasks" not in rows["dag-image-classifier"]
    assert "create" in rows["airflow-scheduler"]["pods in airflow-tasks"]


@pytest.mark.parametrize(
    ("stack", "policy", "servers"),
    [
        (
            "dev",
            "kubernetes:networking.k8s.aws/v1alpha1:ApplicationNetworkPolicy",
            ("warehouse.example.com:5432", "warehouse.example.com:5433"),
        ),
        ("local", "kubernetes:networking.k8s.io/v1:NetworkPolicy", ("any address:5432", "any address:5433")),
    ],
)
def test_a_dag_may_connect_to_the_servers_that_it_declares(
    declared: None, stack: str, policy: str, servers: tuple[str, ...]
) -> None:
    recording = record(stack)
    [created] = [item for item in recording.of_type(policy) if item.name.startswith("dag-")]
    assert created.inputs["metadata"] == {"name": "dag-churn-egress", "namespace": "airflow-tasks"}
    assert created.inputs["spec"]["podSelector"] == {"matchLabels": {"dag_id": "churn"}}
    found = [grant for grant in grants(recording) if grant.source == "dag-churn-egress"]
    assert [(grant.who, grant.actions, grant.resources) for grant in found] == [
        ("dag-churn", ("connect",), servers),
        ("dag-churn", ("connect",), ("198.51.100.0/24:22",)),
    ]


@pytest.mark.parametrize("stack", ["dev", "local"])
def test_only_the_pods_of_a_dag_that_declares_it_connect_to_each_other(
    monkeypatch: pytest.MonkeyPatch, stack: str
) -> None:
    dags = {"churn": DagDeclaration(pods_connect=True), "quiet": DagDeclaration()}
    monkeypatch.setattr(network_policies, "declarations", lambda: dags)
    recording = record(stack)
    [created] = [item for item in recording.resources if item.name.endswith("-workers") and "Policy" in item.type]
    assert created.inputs["metadata"] == {"name": "dag-churn-workers", "namespace": "airflow-tasks"}
    pods = {"matchLabels": {"dag_id": "churn"}}
    tcp = [{"protocol": "TCP"}]
    assert created.inputs["spec"] == {
        "podSelector": pods,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": tcp, "from": [{"podSelector": pods}]}],
        "egress": [{"ports": tcp, "to": [{"podSelector": pods}]}],
    }
    found = [grant for grant in grants(recording) if grant.source == "dag-churn-workers"]
    assert [(one.who, one.actions, one.resources) for one in found] == [
        ("dag-churn", ("connect",), ("pods of churn:any port",))
    ]


@pytest.mark.parametrize(("stack", "server"), [("dev", "smtp.example.com:587"), ("local", "any address:587")])
def test_the_tasks_of_a_dag_and_the_triggerer_may_connect_to_the_servers_of_its_notifications(
    monkeypatch: pytest.MonkeyPatch, stack: str, server: str
) -> None:
    mail = Notification(connection="mail", server=Destination(host="smtp.example.com", ports=(587,)))
    dags = {dag_id: DagDeclaration(notify=(mail, Notification(connection="team"))) for dag_id in ("churn", "fraud")}
    monkeypatch.setattr(network_policies, "declarations", lambda: dags)
    found = [grant for grant in grants(record(stack)) if grant.actions == ("connect",)]
    assert [(grant.who, grant.resources) for grant in found] == [
        ("dag-churn", (server,)),
        ("dag-fraud", (server,)),
        ("airflow-triggerer", (server,)),
    ]


def test_a_dag_and_the_triggerer_may_publish_to_the_topics_of_its_notifications(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:team"
    dags = {"churn": DagDeclaration(notify=(Notification(connection="team", topic=topic),)), "quiet": DagDeclaration()}
    monkeypatch.setattr(platform, "declarations", lambda: dags)
    _, rows = matrix(record("dev"))
    publishing = {account: row["team"] for account, row in rows.items() if "team" in row}
    assert publishing == {"dag-churn": ["Publish"], "airflow-triggerer": ["Publish"]}
