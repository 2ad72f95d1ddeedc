"""The script that makes the databases, on a server as RDS has it: the administrator is no superuser."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.aws.database import ADMIN
from infra.database_setup import SCRIPT
from infra.laptop import postgres
from infra.laptop.home import Home
from infra.laptop.processes import LOOPBACK, free_port, start, stop, wait_until_healthy

PSQL = postgres.PROGRAMS / "psql"


class Server:
    """A server, and an administrator with the rights that RDS gives one."""

    def __init__(self, home: Home, port: int) -> None:
        self.port = port
        with self.connect(postgres.SUPERUSER, home.secrets.postgres, "postgres") as connection:
            connection.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")

    def connect(self, user: str, password: str, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=LOOPBACK, port=self.port, user=user, password=password, dbname=database, autocommit=True
        )

    def run_script(self, name: str, password: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.port),
            "PGDATABASE": "postgres",
            "PGUSER": ADMIN,
            "PGPASSWORD": "admin",
            "DATABASE_NAME": name,
            "DATABASE_PASSWORD": password,
        }
        command = [str(PSQL), "--no-psqlrc", "--quiet", f"--file={SCRIPT}"]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def may_connect(self, user: str, password: str, database: str) -> bool:
        try:
            self.connect(user, password, database).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("home"))
    home.create()
    postgres.prepare(home)
    service = postgres.service(home, free_port(25432, set()))
    start(home, service)
    try:
        wait_until_healthy(home, service, seconds=60)
        server = Server(home, service.port or 0)
        server.run_script("airflow", "one")
        server.run_script("mlflow", "two")
        yield server
    finally:
        stop(home, "postgres")


def test_an_owner_makes_tables_in_a_database_that_takes_any_text(server: Server) -> None:
    with server.connect("airflow", "one", "airflow") as connection:
        connection.execute("CREATE TABLE greeting (text text)")
        connection.execute("INSERT INTO greeting VALUES ('grüße, 你好')")
        assert connection.execute("SELECT text FROM greeting").fetchall() == [("grüße, 你好",)]
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_an_owner_cannot_enter_the_database_of_the_other(server: Server) -> None:
    assert server.may_connect("mlflow", "two", "mlflow")
    assert not server.may_connect("mlflow", "two", "airflow")
    assert not server.may_connect("airflow", "one", "mlflow")


def test_running_it_again_keeps_the_data_and_takes_the_new_password(server: Server) -> None:
    with server.connect("mlflow", "two", "mlflow") as connection:
        connection.execute("CREATE TABLE kept (number int)")
    server.run_script("mlflow", "three's")
    assert not server.may_connect("mlflow", "two", "mlflow")
    with server.connect("mlflow", "three's", "mlflow") as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_failure_is_told_so_that_the_job_is_repeated(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sql"
    broken.write_text(SCRIPT.read_text().replace("CREATE DATABASE", "CREATE DATABSE"))
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": LOOPBACK,
        "PGPORT": str(server.port),
        "PGDATABASE": "postgres",
        "PGUSER": ADMIN,
        "PGPASSWORD": "admin",
        "DATABASE_NAME": "other",
        "DATABASE_PASSWORD": "x",
    }
    done = subprocess.run([str(PSQL), f"--file={broken}"], env=environment, check=False, capture_output=True)
    assert done.returncode != 0
