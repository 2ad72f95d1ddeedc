"""Which component has which secret: only those that it uses, and those that run authors' code only as files."""

from typing import Any

import pytest

from infra.database_connections import API_SERVER, CLEANUP, COMPONENT, JOBS, MLFLOW, USER_CONNECTIONS
from ops.plan.manifests import Object, pods

from .conftest import containers, of_kind, stack_objects

Objects = tuple[Object, ...]

DATABASE, ASYNC_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"
FERNET, JWT, API = "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"
WITHOUT_SECRETS = ("dag-processor", "triggerer")


def pod_of(objects: Objects, kind: str, name: str) -> Any:
    [pod] = pods(of_kind(objects, kind)[name])
    return pod


def secrets(container: Any) -> dict[str, str]:
    """Return the variables that come from Secrets, with the names of those."""
    return {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in container.get("env", [])
        if "valueFrom" in variable
    }


@pytest.mark.parametrize(
    ("kind", "component", "names"),
    [
        ("Deployment", "scheduler", {DATABASE, FERNET, JWT}),
        ("Deployment", "api-server", {DATABASE, ASYNC_DATABASE, FERNET, JWT, API}),
        ("Deployment", "dag-processor", set()),
        ("Deployment", "triggerer", set()),
        ("Job", "run-airflow-migrations", {DATABASE, FERNET, "AIRFLOW_ADMIN_USERNAME", "AIRFLOW_ADMIN_PASSWORD"}),
        ("CronJob", "database-cleanup", {DATABASE}),
    ],
)
def test_a_component_has_only_the_secrets_that_it_uses(
    objects: Objects, stack: str, kind: str, component: str, names: set[str]
) -> None:
    container = pod_of(objects, kind, f"airflow-{component}")["containers"][0]
    with_store = stack == "local" and component == "api-server"
    assert set(secrets(container)) == names | ({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} if with_store else set())
    assert "envFrom" not in container or not container["envFrom"]


@pytest.mark.parametrize("component", ["scheduler", "api-server", *WITHOUT_SECRETS])
def test_the_address_of_the_database_is_a_file_for_what_waits_for_it(objects: Objects, component: str) -> None:
    pod = pod_of(objects, "Deployment", f"airflow-{component}")
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "secrets"]
    assert volume["secret"]["secretName"] == f"airflow-{component if component in WITHOUT_SECRETS else 'database'}"
    [container] = [container for container in pod["initContainers"] if container["name"] == "wait-for-database"]
    assert not secrets(container)
    assert {"name": "secrets", "mountPath": "/opt/airflow/secrets", "readOnly": True} in container["volumeMounts"]


@pytest.mark.parametrize("component", WITHOUT_SECRETS)
def test_a_component_that_runs_authors_code_mounts_only_its_own_secret(objects: Objects, component: str) -> None:
    pod = pod_of(objects, "Deployment", f"airflow-{component}")
    mounted = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert mounted - {"dags-git"} == {f"airflow-{component}"}
    for container in containers(pod):
        assert set(secrets(container).values()) <= {"dags-git"}, container["name"]


def test_each_component_that_runs_authors_code_logs_in_to_the_database_as_itself(objects: Objects) -> None:
    found = of_kind(objects, "Secret")
    content = {name: found[f"airflow-{name}"]["stringData"] for name in ("database", *WITHOUT_SECRETS)}
    for name, user in {
        "database": "airflow",
        "dag-processor": "airflow-dag-processor",
        "triggerer": "airflow-triggerer",
    }.items():
        assert content[name]["connection"].startswith(f"postgresql://{user}:"), name
    assert set(content["dag-processor"]) == {"connection"}
    assert len({text["connection"].partition("@")[0] for text in content.values()}) == 3


def test_the_triggerer_has_the_object_stores_keys_as_a_file_where_pods_have_no_identity(
    objects: Objects, stack: str
) -> None:
    secret = of_kind(objects, "Secret")["airflow-triggerer"]["stringData"]
    container = pod_of(objects, "Deployment", "airflow-triggerer")["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "secrets"]
    if stack != "local":
        assert set(secret) == {"connection", "fernet-key"}
        assert "AWS_SHARED_CREDENTIALS_FILE" not in variables
        return
    assert variables["AWS_SHARED_CREDENTIALS_FILE"] == f"{mount['mountPath']}/aws-credentials"
    lines = secret["aws-credentials"].splitlines()
    assert lines[0] == "[default]"
    assert {line.partition(" = ")[0] for line in lines[1:]} == {"aws_access_key_id", "aws_secret_access_key"}


def test_the_connection_pool_knows_every_user_and_keeps_most_connections_for_the_owner() -> None:
    files = of_kind(stack_objects("prod"), "Secret")["airflow-connection-pool"]["stringData"]
    users = [line.split()[0] for line in files["users.txt"].splitlines()]
    assert users == [f'"airflow{end}"' for end in ("", "-dag-processor", "-triggerer")]
    assert "pool_size=14" in files["pgbouncer.ini"]
    assert files["pgbouncer.ini"].endswith(
        "[users]\nairflow-dag-processor = max_user_connections=3\nairflow-triggerer = max_user_connections=3\n"
    )


def test_a_component_opens_no_more_connections_than_are_counted(objects: Objects) -> None:
    counted = {"api-server": API_SERVER, "scheduler": COMPONENT, "dag-processor": COMPONENT, "triggerer": COMPONENT}
    for name, pool in {**counted, "database-cleanup": CLEANUP}.items():
        container = pod_of(objects, "Deployment" if name in counted else "CronJob", f"airflow-{name}")["containers"][0]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        option = "AIRFLOW__DATABASE__SQL_ALCHEMY_"
        assert variables[f"{option}POOL_SIZE"] == str(pool.size), name
        assert variables[f"{option}MAX_OVERFLOW"] == str(pool.overflow), name
    assert COMPONENT.most <= USER_CONNECTIONS
    assert CLEANUP.most <= JOBS
    container = pod_of(objects, "Deployment", "mlflow")["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == str(MLFLOW.size)
    assert variables["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] == str(MLFLOW.overflow)


def test_a_changed_repository_prepares_the_database_again(objects: Objects) -> None:
    container = pod_of(objects, "Job", "airflow-run-airflow-migrations")["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert "GitSyncBundle" in variables["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
