"""A DAG whose author wants more than is theirs: what denies each attempt, and what its honest twin may do."""

from typing import Any

import pytest

from .airflow_client import Airflow
from .stack import wait_until


@pytest.fixture(scope="module")
def hostile(airflow: Airflow) -> str:
    """Return a run of the DAG of that name, which has ended."""
    wait_until(lambda: airflow.dags() >= {"hostile", "honest"}, "the DAGs")
    run = airflow.trigger("hostile")
    assert airflow.finish("hostile", run, seconds=300) == "failed"
    return run


SECRETS = "a task may only use the Secrets mlflow-tasks, features-database, object-store"


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("the_schedulers_account", "the service account of hostile is airflow-task, not airflow-scheduler"),
        ("another_dags_account", "the service account of hostile is airflow-task, not dag-image-classifier"),
        ("another_dags_identity", "only Airflow sets the labels and annotations dag_id"),
        ("a_secret_as_variable", SECRETS),
        ("a_secret_as_variables", SECRETS),
        ("a_secret_as_volume", SECRETS),
        ("a_secret_as_projected_volume", SECRETS),
        ("a_kubernetes_token", "only a task of a DAG that declares `serves` in dag.yaml may have a Kubernetes token"),
        ("a_folder_of_the_node", "violates PodSecurity"),
        ("airflows_namespace", 'cannot create resource "pods" in API group "" in the namespace "airflow"'),
        ("the_schedulers_label", "a task must have the label component=worker"),
        ("the_schedulers_priority", "a task must have the PriorityClass airflow-task"),
    ],
)
def test_a_task_whose_pod_is_refused_fails_at_once_with_the_reason_in_its_log(
    airflow: Airflow, hostile: str, task: str, reason: str
) -> None:
    [found] = [one for one in airflow.tasks("hostile", hostile) if one["task_id"] == task]
    assert (found["state"], found["try_number"]) == ("failed", 1)
    log = airflow.log("hostile", hostile, task)
    assert "The pod of this task was refused: " in log
    assert reason in log.replace("\\", "")


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("variables", []),
        ("metadata_of_the_node", "timed out"),
        ("kubernetes_api", '403 secrets is forbidden: User "system:anonymous" cannot list resource'),
        ("model_registry", "401"),
    ],
)
def test_what_a_task_may_not_reach_does_not_answer_it(
    airflow: Airflow, hostile: str, task: str, answer: str | list[str]
) -> None:
    found = result(airflow, "hostile", hostile, task)
    assert found[: len(answer)] == answer if answer else found == answer


def result(airflow: Airflow, dag_id: str, run: str, task: str) -> Any:
    return airflow.get(f"dags/{dag_id}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value")["value"]


def test_a_task_logs_in_to_the_database_of_its_features_and_to_no_other(airflow: Airflow, hostile: str) -> None:
    answers = result(airflow, "hostile", hostile, "databases")
    assert answers.keys() >= {"airflow", "mlflow", "features", "postgres", "template1"}
    assert answers.pop("features") == "connected"
    assert not answers.pop("template0").startswith("connected")
    for name, answer in answers.items():
        assert answer.startswith(f'permission denied for database "{name}"'), name


def test_a_task_cannot_log_in_to_the_database_server_as_another_user(airflow: Airflow, hostile: str) -> None:
    for user, answer in result(airflow, "hostile", hostile, "other_users").items():
        assert answer.startswith(f'password authentication failed for user "{user}"'), user


def test_a_task_that_asks_for_what_is_its_own_gets_it(airflow: Airflow, hostile: str) -> None:
    run = airflow.trigger("honest")
    assert airflow.finish("honest", run, seconds=180) == "success"
    assert result(airflow, "honest", run, "ask") == {"variable": True, "mlflow": 200, "features": "features"}
