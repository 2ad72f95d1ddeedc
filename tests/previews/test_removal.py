"""Removals on real servers: an environment's databases and objects are deleted, and nothing of its base."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.airflow_names import DATABASE_USERS
from infra.errors import OperationError
from infra.preview_names import database_names, stack_name
from ops.previews.database_drop import SCRIPT, manifest_of
from ops.previews.objects import empty
from ops.stacks.platform_stack import DatabaseServer
from tests.database_server import Server, running

STACK = stack_name("local", "feature/x")
OTHER = stack_name("local", "feature/y")
COMPONENTS = {
    database_names(stack)[purpose]: components
    for stack in (STACK, OTHER)
    for purpose, components in (("airflow", DATABASE_USERS), ("mlflow", ()), ("features", ()))
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        for stack in (STACK, OTHER):
            for name in database_names(stack).values():
                server.run_script(name, "secret", {f"{name}-{component}": "x" for component in COMPONENTS[name]})
        yield server


def drop(server: Server, *names: str) -> subprocess.CompletedProcess[str]:
    # The Secret of the base's database.
    names_to_drop = {"DATABASES": " ".join(names), "COMPONENTS": " ".join(DATABASE_USERS)}
    environment = {**server.environment("airflow", "one"), **names_to_drop}
    return subprocess.run(["sh", str(SCRIPT)], env=environment, check=False, capture_output=True, text=True)


def existing(server: Server) -> tuple[set[str], set[str]]:
    with server.connect("dbadmin", "admin", "postgres") as connection:
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    return databases, roles


def test_databases_and_users_are_dropped_despite_connections_and_all_others_stay(server: Server) -> None:
    names = database_names(STACK)
    before, roles_before = existing(server)
    with server.connect(names["airflow"], "secret", names["airflow"]) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute(f'GRANT SELECT ON kept TO "{names["airflow"]}-triggerer"'.encode())
        dropped = drop(server, *names.values())
        assert dropped.returncode == 0, dropped.stderr
        connection.close()
    databases, roles = existing(server)
    assert before - databases == set(names.values())
    users = {f"{names['airflow']}-{component}" for component in DATABASE_USERS}
    assert roles_before - roles == {*names.values(), *users}
    assert databases >= {"airflow", "mlflow", "features", *database_names(OTHER).values()}


def test_dropping_missing_databases_is_no_failure(server: Server) -> None:
    never_made = database_names(stack_name("local", "never/made"))
    for _ in range(2):
        assert drop(server, *never_made.values()).returncode == 0


@pytest.mark.parametrize("name", ["airflow", "mlflow", "features", "postgres", "x-preview-1"])
def test_the_bases_databases_are_refused(server: Server, name: str) -> None:
    refused = drop(server, name)
    assert refused.returncode != 0
    assert refused.stdout == f"{name} is not the database of a preview environment\n"
    assert {"airflow", "mlflow", "features", "postgres"} <= existing(server)[0]


def test_a_server_that_does_not_respond_is_a_failure(server: Server) -> None:
    nobody = SimpleNamespace(environment=lambda *_: {**server.environment("airflow", "one"), "PGPORT": "1"})
    assert drop(nobody, *database_names(OTHER).values()).returncode != 0  # type: ignore[arg-type]


def test_the_job_names_the_environments_databases_and_holds_no_password() -> None:
    server = DatabaseServer("airflow-platform", "create-airflow-1", "postgres:17", 999)
    manifest = manifest_of(server, STACK)
    assert manifest["metadata"]["name"] == f"drop-{STACK}"
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [
        {"name": "DATABASES", "value": f"{STACK}-airflow {STACK}-mlflow {STACK}-features"},
        {"name": "COMPONENTS", "value": "dag-processor triggerer"},
    ]
    assert container["envFrom"] == [{"secretRef": {"name": "create-airflow-1"}}]
    with pytest.raises(ValueError, match=r"^dev is not the name of a preview environment$"):
        manifest_of(server, "dev")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_bucket(Bucket="data")
        yield client


def keys(s3: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket="data").get("Contents", ())]


def test_only_the_objects_of_an_environment_are_deleted(s3: Any) -> None:
    prefix = f"previews/{STACK}/"
    others = ["images/a", f"previews/{OTHER}/a", f"previews/{STACK}", f"x{prefix}a"]
    for key in (*others, *(f"{prefix}images/{number}" for number in range(1001))):
        s3.put_object(Bucket="data", Key=key, Body=b"")
    assert empty(s3, "data", prefix) == 1001
    assert keys(s3) == sorted(others)
    assert empty(s3, "data", prefix) == 0


def test_an_object_that_cannot_be_deleted_is_an_error(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket="data", Key="previews/x/a", Body=b"")
    answer = {"Errors": [{"Key": "previews/x/a", "Code": "AccessDenied"}]}
    monkeypatch.setattr(s3, "delete_objects", lambda **_: answer)
    with pytest.raises(OperationError, match=r"1 objects under s3://data/previews/x/ cannot be deleted \(AccessDenied"):
        empty(s3, "data", "previews/x/")
