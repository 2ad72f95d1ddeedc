"""The script that creates databases, on a server where, as on RDS, the administrator is not a superuser."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.database_setup import SCRIPT
from ops.laptop import postgres
from tests.database_server import Server, running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def test_an_owner_can_create_tables_in_a_database_that_stores_any_text(server: Server) -> None:
    with server.connect("airflow", "one", "airflow") as connection:
        connection.execute("CREATE TABLE greeting (text text)")
        connection.execute("INSERT INTO greeting VALUES ('grüße, 你好')")
        assert connection.execute("SELECT text FROM greeting").fetchall() == [("grüße, 你好",)]
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_an_owner_cannot_connect_to_another_owners_database(server: Server) -> None:
    assert server.may_connect("mlflow", "two", "mlflow")
    assert not server.may_connect("mlflow", "two", "airflow")
    assert not server.may_connect("airflow", "one", "mlflow")


def test_the_owner_of_features_connects_to_features_and_to_no_other_database(server: Server) -> None:
    with server.connect("dbadmin", "admin", "postgres") as connection:
        databases = {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
    assert databases >= {"airflow", "mlflow", "features", "postgres", "template0", "template1"}
    assert {name for name in databases if server.may_connect("features", "three", name)} == {"features"}


def test_the_script_runs_for_several_databases_at_once(server: Server) -> None:
    command = ["psql", "--no-psqlrc", "--quiet", f"--file={SCRIPT}"]
    names = [f"at-once-{number}" for number in range(8)]
    running = [subprocess.Popen(command, env=server.environment(name, "x")) for name in names]
    assert [process.wait() for process in running] == [0] * 8
    assert all(server.may_connect(name, "x", name) for name in names)


def test_running_the_script_again_keeps_the_data_and_sets_the_new_password(server: Server) -> None:
    with server.connect("mlflow", "two", "mlflow") as connection:
        connection.execute("CREATE TABLE kept (number int)")
    server.run_script("mlflow", "three's")
    assert not server.may_connect("mlflow", "two", "mlflow")
    with server.connect("mlflow", "three's", "mlflow") as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_an_owner_has_no_connection_limit_unless_one_is_set(server: Server) -> None:
    query = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'airflow'"
    with server.connect("airflow", "one", "airflow") as connection:
        assert connection.execute(query).fetchone() == (-1,)
        environment = {**server.environment("airflow", "one"), "DATABASE_CONNECTIONS": "7"}
        subprocess.run(["psql", "--no-psqlrc", "--quiet", f"--file={SCRIPT}"], env=environment, check=True)
        assert connection.execute(query).fetchone() == (7,)


@pytest.mark.parametrize(
    ("extension", "is_superuser", "expected"),
    [
        # RDS lets its administrator create this extension, here only the superuser may.
        ("vector", True, ["plpgsql", "vector"]),
        ("plpgsql", False, ["plpgsql"]),
        ("absent", False, ["plpgsql"]),
    ],
)
def test_a_database_gets_its_extension_if_the_server_has_it(
    server: Server, extension: str, is_superuser: bool, expected: list[str]
) -> None:
    name = f"with-{extension}"
    superuser = {"PGUSER": postgres.SUPERUSER, "PGPASSWORD": server.superuser_password} if is_superuser else {}
    environment = {**server.environment(name, "x"), **superuser, "DATABASE_EXTENSION": extension}
    for _ in range(2):
        subprocess.run(["psql", "--no-psqlrc", "--quiet", f"--file={SCRIPT}"], env=environment, check=True)
    with server.connect(name, "x", name) as connection:
        found = connection.execute("SELECT extname FROM pg_extension ORDER BY extname").fetchall()
    assert [extension for (extension,) in found] == expected


def test_a_further_user_connects_to_this_database_only_and_may_do_nothing_in_it(server: Server) -> None:
    server.run_script("airflow", "one", {"airflow-triggerer": "its own's"})
    with server.connect("airflow", "one", "airflow") as connection:
        connection.execute("CREATE TABLE secret (number int)")
    assert not server.may_connect("airflow-triggerer", "its own's", "mlflow")
    with server.connect("airflow-triggerer", "its own's", "airflow") as connection:
        for statement in ("SELECT FROM secret", "CREATE TABLE it (number int)", "CREATE TEMP TABLE it (number int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                connection.execute(statement.encode())


def test_further_users_get_new_passwords_and_few_connections(server: Server) -> None:
    for password in ("first", "second"):
        server.run_script("airflow", "one", {"airflow-triggerer": password, "airflow-dag-processor": "x"})
    assert not server.may_connect("airflow-triggerer", "first", "airflow")
    assert server.may_connect("airflow-triggerer", "second", "airflow")
    with server.connect("airflow", "one", "airflow") as connection:
        limits = connection.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname LIKE 'airflow-%'").fetchall()
    assert limits == [(10,), (10,)]


def test_a_failure_is_reported_so_that_the_job_is_retried(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sql"
    broken.write_text(SCRIPT.read_text().replace("CREATE DATABASE", "CREATE DATABSE"))
    environment = server.environment("other", "x")
    done = subprocess.run(["psql", f"--file={broken}"], env=environment, check=False, capture_output=True)
    assert done.returncode != 0
