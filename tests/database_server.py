"""A PostgreSQL server as RDS has it: the administrator is no superuser."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from infra.aws.database import ADMIN
from infra.database_setup import SCRIPT
from ops.laptop import postgres
from ops.laptop.home import Home
from ops.laptop.processes import start, stop, wait_until_healthy
from ops.loopback import LOOPBACK
from tests.servers import free_port


class Server:
    """A server, and an administrator with the rights that RDS gives one."""

    def __init__(self, home: Home, port: int) -> None:
        self.port = port
        self.superuser_password = home.secrets.postgres
        with self.connect(postgres.SUPERUSER, self.superuser_password, "postgres") as connection:
            connection.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")
            for database in ("postgres", "template1"):
                connection.execute(f"ALTER DATABASE {database} OWNER TO {ADMIN}".encode())

    def connect(self, user: str, password: str, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=LOOPBACK, port=self.port, user=user, password=password, dbname=database, autocommit=True
        )

    def environment(self, name: str, password: str, users: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """What the Secret of a setup Job holds, and where its programs are."""
        return {
            "PATH": f"{postgres.PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.port),
            "PGDATABASE": "postgres",
            "PGUSER": ADMIN,
            "PGPASSWORD": "admin",
            "DATABASE_NAME": name,
            "DATABASE_PASSWORD": password,
            "DATABASE_USERS": json.dumps(users or {}),
            "USER_CONNECTIONS": "10",
        }

    def run_script(self, name: str, password: str, users: Mapping[str, str] | None = None) -> None:
        """Make a database, its owner, and further users with these passwords."""
        command = ["psql", "--no-psqlrc", "--quiet", f"--file={SCRIPT}"]
        environment = self.environment(name, password, users)
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def may_connect(self, user: str, password: str, database: str) -> bool:
        try:
            self.connect(user, password, database).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def started() -> Iterator[tuple[Home, int]]:
    """Start PostgreSQL without databases; give its home and its port."""
    # Not in pytest's folder: each run that starts closes that to other users, and PostgreSQL may be one.
    with TemporaryDirectory(prefix="postgres-") as folder:
        home = Home(Path(folder) / "home")
        home.create()
        postgres.prepare(home)
        service = postgres.service(home, free_port())
        start(home, service)
        try:
            wait_until_healthy(home, service, seconds=180)
            yield home, service.port or 0
        finally:
            stop(home, "postgres")


@contextmanager
def running() -> Iterator[Server]:
    """Start a server with the databases of Airflow, MLflow and features; passwords `one`, `two` and `three`."""
    with started() as (home, port):
        server = Server(home, port)
        server.run_script("airflow", "one")
        server.run_script("mlflow", "two")
        server.run_script("features", "three")
        yield server
