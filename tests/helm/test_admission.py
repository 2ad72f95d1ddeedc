"""The admission policies agree with each stack's objects; what they refuse is in tests/cluster/."""

import json
from typing import Any

import pytest
import yaml

from infra.airflow.admission import SERVER_SIZES, Limits, server_rules
from infra.dag_declarations import DagDeclaration, ModelServer
from ml_common.serving_manifests import SIZES, ServingSettings, manifests
from ops.plan.manifests import Object
from tests import accounts

from .conftest import of_kind
from .test_pods import named_secrets

Objects = tuple[Object, ...]

NAMES = ("airflow-task-pods", "airflow-model-server", "airflow-model-service")


def rule(objects: Objects, policy: str, message: str) -> str:
    """Return the expression of the rule whose message contains a text."""
    [found] = [
        validation["expression"]
        for validation in of_kind(objects, "ValidatingAdmissionPolicy")[policy]["spec"]["validations"]
        if message in validation["message"]
    ]
    return str(found)


@pytest.fixture
def task(objects: Objects) -> Any:
    return yaml.safe_load(of_kind(objects, "ConfigMap")["airflow-config"]["data"]["pod_template_file.yaml"])


def test_every_policy_is_enforced_in_its_namespace(objects: Objects) -> None:
    bindings = of_kind(objects, "ValidatingAdmissionPolicyBinding")
    assert set(of_kind(objects, "ValidatingAdmissionPolicy")) == set(bindings) == set(NAMES)
    for name, binding in bindings.items():
        assert binding["spec"]["policyName"] == name
        assert binding["spec"]["validationActions"] == ["Deny"]
        [(label, namespace)] = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"].items()
        assert label == "kubernetes.io/metadata.name"
        assert namespace == ("airflow-tasks" if name == "airflow-task-pods" else "airflow")


def test_a_policy_that_cannot_be_evaluated_refuses(objects: Objects) -> None:
    for policy in of_kind(objects, "ValidatingAdmissionPolicy").values():
        assert policy["spec"]["failurePolicy"] == "Fail"
        for validation in policy["spec"]["validations"]:
            assert validation["reason"] == "Forbidden"  # the executor fails such a task at once
            assert validation["message"]


def test_all_pods_of_tasks_are_checked_and_all_deployments_of_their_accounts(objects: Objects) -> None:
    policies = of_kind(objects, "ValidatingAdmissionPolicy")
    assert "matchConditions" not in policies["airflow-task-pods"]["spec"]
    for name in ("airflow-model-server", "airflow-model-service"):
        [condition] = policies[name]["spec"]["matchConditions"]
        assert 'startsWith("system:serviceaccount:airflow-tasks:")' in condition["expression"]
        [resources] = policies[name]["spec"]["matchConstraints"]["resourceRules"]
        assert resources["operations"] == ["CREATE", "UPDATE"]


def test_a_task_may_use_the_accounts_of_its_namespace(objects: Objects) -> None:
    found = [
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "ServiceAccount" and item["metadata"]["namespace"] == "airflow-tasks"
    ]
    expression = rule(objects, "airflow-task-pods", "service account of its DAG")
    assert set(found) == accounts.OF_TASKS
    assert all(f'"{account}"' in expression for account in found)


def test_a_task_may_use_the_secrets_of_its_namespace(objects: Objects, task: Any) -> None:
    expression = rule(objects, "airflow-task-pods", "Secrets")
    there = {
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "Secret" and item["metadata"]["namespace"] == "airflow-tasks"
    }
    assert named_secrets(task["spec"]) <= there
    for secret in there:
        assert f'"{secret}"' in expression
    for item in objects:
        if item["kind"] == "Secret" and item["metadata"]["name"] not in there:
            assert f'"{item["metadata"]["name"]}"' not in expression, item["metadata"]["name"]


def test_a_task_may_use_the_node_pools_of_its_stack_and_no_others(stack: str, objects: Objects) -> None:
    validations = of_kind(objects, "ValidatingAdmissionPolicy")["airflow-task-pods"]["spec"]["validations"]
    found = [one["expression"] for one in validations if "node pools" in one["message"]]
    pools = of_kind(objects, "NodePool")
    assert len(found) == (0 if stack == "local" else 1)
    for expression in found:
        assert f"in {json.dumps(list(pools))} &&" in expression
        taints = [
            taint["key"] for pool in pools.values() for taint in pool["spec"]["template"]["spec"].get("taints", [])
        ]
        tolerated = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", *taints]
        assert f"in {json.dumps(tolerated)})" in expression


def test_a_task_without_changes_has_the_priority_and_the_label(objects: Objects, task: Any) -> None:
    assert f'"{task["spec"]["priorityClassName"]}"' in rule(objects, "airflow-task-pods", "PriorityClass")
    assert f'"{task["metadata"]["labels"]["component"]}"' in rule(objects, "airflow-task-pods", "label")


def test_a_model_server_may_be_as_large_as_its_size() -> None:
    assert {name: (one.cpu_request, one.memory_limit) for name, one in SIZES.items()} == SERVER_SIZES
    server = ModelServer(name="churn", size="medium", replicas=2)
    limits = Limits("airflow", [], None, {"churn": DagDeclaration(serves=server)}, {})
    replicas, size = (rule.expression for rule in server_rules(limits)[-2:])
    assert '<= {"churn": 2}[?string(object.metadata.name)].orValue(1)' in replicas
    assert '{"churn": "500m"}' in size
    assert '{"churn": "3Gi"}' in size


def test_the_model_server_is_what_a_task_deploys(objects: Objects, task: Any) -> None:
    variables = {variable["name"]: variable.get("value") for variable in task["spec"]["containers"][0]["env"]}
    image, account = variables["SERVING_IMAGE"], variables["SERVING_SERVICE_ACCOUNT"]
    service, deployment = manifests(ServingSettings("image-classifier", "airflow", image, account), "1")
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"] == service["spec"]["selector"]
    for key, value in pod["metadata"]["labels"].items():
        expected = "string(object.metadata.name)" if key == "app.kubernetes.io/name" else f'"{value}"'
        assert f'"{key}": {expected}' in rule(objects, "airflow-model-server", "the labels")
    policy = "airflow-model-server"
    account_of_dag = "system:serviceaccount:airflow-tasks:dag-image-classifier"
    assert f'"{account_of_dag}": "image-classifier"' in rule(objects, policy, "only deploy")
    assert f'"{account}"' in rule(objects, policy, "service account")
    assert f'"{image.rpartition(":")[0]}"' in rule(objects, policy, "images")
    [group] = pod["spec"]["containers"][0]["envFrom"]
    assert group["secretRef"]["name"] == "image-classifier-serving"
    for secret in ("serving", "passed"):
        assert f"string(object.metadata.name) + '-{secret}'" in rule(objects, policy, "Secret")
