"""What the components that run authors' code have of Airflow's secrets, and what their users of the database can do."""

from base64 import b64decode

import pytest

from infra.airflow_names import DATABASE_USERS

from .airflow_client import Airflow
from .stack import NAMESPACE, get, kubectl, wait_until

LETTERS = 8  # shorter values, such as the name of a user, are no secrets


def secret_values() -> dict[str, str]:
    """Return the values of all Secrets of Airflow's namespace by `name/key`."""
    return {
        f"{secret['metadata']['name']}/{key}": value
        for secret in get("secrets")["items"]
        for key, encoded in secret.get("data", {}).items()
        if len(value := b64decode(encoded).decode(errors="replace")) >= LETTERS
    }


def secrets_in(text: str) -> list[str]:
    return [name for name, value in secret_values().items() if value in text]


def parse_time_environment(airflow: Airflow, dag_id: str = "curious") -> str:
    """Return what a DAG found in /proc/self/environ while its file was parsed."""
    wait_until(lambda: dag_id in airflow.dags(), f"the DAG {dag_id}")
    return str(airflow.get(f"dags/{dag_id}/details")["doc_md"])


def test_the_environment_in_which_a_dags_file_is_parsed_has_no_secret(airflow: Airflow) -> None:
    environment = parse_time_environment(airflow)
    assert "AIRFLOW_HOME=" in environment
    assert secrets_in(environment) == []


def in_pod(component: str, *command: str) -> str:
    return kubectl("exec", "-n", NAMESPACE, f"deployment/airflow-{component}", "-c", component, "--", *command)


@pytest.mark.parametrize("component", DATABASE_USERS)
def test_no_process_of_a_component_that_runs_authors_code_has_a_secret_in_its_environment(
    airflow: Airflow, component: str
) -> None:
    environments = in_pod(component, "sh", "-c", "cat /proc/[0-9]*/environ")
    assert environments.count("AIRFLOW_HOME=") >= 2
    assert secrets_in(environments) == []


def test_the_other_components_would_not_pass(airflow: Airflow) -> None:
    assert "airflow-database/connection" in secrets_in(in_pod("scheduler", "sh", "-c", "cat /proc/1/environ"))


@pytest.mark.parametrize(
    ("component", "files"),
    [("dag-processor", ["connection"]), ("triggerer", ["aws-credentials", "connection", "fernet-key"])],
)
def test_a_component_that_runs_authors_code_has_only_the_secrets_that_it_uses_as_files(
    airflow: Airflow, component: str, files: list[str]
) -> None:
    assert in_pod(component, "ls", "/opt/airflow/secrets").split() == files


# Prints how PostgreSQL answers a statement of the component's user.
QUERY = """
import sys
from pathlib import Path
import psycopg2

connection = psycopg2.connect(Path("/opt/airflow/secrets/connection").read_text())
try:
    connection.cursor().execute(sys.argv[1])
    print("done")
except psycopg2.Error as error:
    print(str(error).partition("\\n")[0])
"""


@pytest.mark.parametrize(
    ("component", "statement", "table"),
    [
        ("dag-processor", "SELECT FROM ab_user", "ab_user"),
        ("dag-processor", "SELECT FROM connection", "connection"),
        ("dag-processor", "SELECT FROM variable", "variable"),
        ("dag-processor", "UPDATE task_instance SET executor_config = NULL", "task_instance"),
        ("dag-processor", "UPDATE task_instance SET state = 'success'", "task_instance"),
        ("triggerer", "SELECT FROM ab_user", "ab_user"),
        ("triggerer", "UPDATE task_instance SET executor_config = NULL", "task_instance"),
        ("triggerer", "UPDATE connection SET host = 'attacker.example'", "connection"),
    ],
)
def test_postgresql_refuses(airflow: Airflow, component: str, statement: str, table: str) -> None:
    assert in_pod(component, "python", "-c", QUERY, statement) == f"permission denied for table {table}\n"


def test_postgresql_lets_the_triggerer_read_connections(airflow: Airflow) -> None:
    assert in_pod("triggerer", "python", "-c", QUERY, "SELECT FROM connection") == "done\n"


def test_a_connection_is_read_in_a_task_and_in_a_trigger(airflow: Airflow) -> None:
    address = {"host": "database.invalid", "login": "someone", "password": "open sesame"}
    airflow.request("POST", "connections", json={"connection_id": "elsewhere", "conn_type": "postgres", **address})
    wait_until(lambda: "deferring" in airflow.dags(), "the DAG")
    run = airflow.trigger("deferring")
    assert airflow.finish("deferring", run, seconds=180) == "success"
    results = {
        task: airflow.get(f"dags/deferring/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value")["value"]
        for task in ("password", "query")
    }
    assert results["password"] == "open sesame"
    assert "failed to resolve host 'database.invalid'" in results["query"]
