"""A DAG whose author wants more than is theirs: what denies each attempt, and what its honest twin may do."""

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


SECRETS = "a task may only use the Secrets mlflow-tasks, dags-git, object-store"


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
        ("database", "timed out"),
        ("metadata_of_the_node", "timed out"),
        ("kubernetes_api", '403 secrets is forbidden: User "system:anonymous" cannot list resource'),
        ("model_registry", "401"),
    ],
)
def test_what_a_task_may_not_reach_does_not_answer_it(
    airflow: Airflow, hostile: str, task: str, answer: str | list[str]
) -> None:
    found = airflow.get(f"dags/hostile/dagRuns/{hostile}/taskInstances/{task}/xcomEntries/return_value")["value"]
    assert found[: len(answer)] == answer if answer else found == answer


def test_a_task_that_asks_for_what_is_its_own_gets_it(airflow: Airflow, hostile: str) -> None:
    run = airflow.trigger("honest")
    assert airflow.finish("honest", run, seconds=180) == "success"
    found = airflow.get(f"dags/honest/dagRuns/{run}/taskInstances/ask/xcomEntries/return_value")["value"]
    assert found == {"variable": True, "mlflow": 200}
