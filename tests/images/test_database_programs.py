"""The programs in images/airflow/bin that use the metadata database, with a real one."""

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.airflow.secrets import with_async_driver
from infra.documents import REPOSITORY
from ops.laptop import postgres
from tests import database_server

PROGRAMS = REPOSITORY / "images" / "airflow" / "bin"
VARIABLE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
REVISIONS = {"alembic_version": "abc", "alembic_version_fab": "def"}


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return the program that waits for the database of the test."""
    module = program("wait_for_database")
    monkeypatch.setattr(module, "CONNECTION", tmp_path / "connection")
    module.CONNECTION.write_text(os.environ[VARIABLE])
    return module


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start PostgreSQL; return the address of an empty database."""
    with database_server.started() as (home, port):
        postgres.create_databases(home, port)
        yield f"postgresql://airflow:{home.secrets.airflow_database}@127.0.0.1:{port}/airflow"


@pytest.fixture
def database(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg2.extensions.connection]:
    monkeypatch.setenv(VARIABLE, server)
    connection = psycopg2.connect(server)
    connection.autocommit = True
    yield connection
    execute(connection, "DROP TABLE IF EXISTS alembic_version, alembic_version_fab, job")
    connection.close()


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "postgresql://airflow@127.0.0.1:1/airflow")


def execute(connection: psycopg2.extensions.connection, *statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def migrate(connection: psycopg2.extensions.connection, revisions: dict[str, str]) -> None:
    for table, revision in revisions.items():
        execute(connection, f"CREATE TABLE {table} (version_num text)", f"INSERT INTO {table} VALUES ('{revision}')")


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
def test_airflows_asynchronous_engine_accepts_the_address(server: str, sslmode: str) -> None:
    async def answer() -> Any:
        engine = create_async_engine(with_async_driver(f"{server}?sslmode={sslmode}"))
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT 1"))

    assert asyncio.run(answer()) == 1


def test_an_empty_database_is_not_migrated(database: psycopg2.extensions.connection, waiting: ModuleType) -> None:
    assert waiting.missing(REVISIONS) == (
        "the metadata database is not migrated (alembic_version is None, not abc, alembic_version_fab is None, not def)"
    )


def test_a_database_of_another_version_is_not_migrated(
    database: psycopg2.extensions.connection, waiting: ModuleType
) -> None:
    migrate(database, REVISIONS | {"alembic_version": "old"})
    assert "(alembic_version is old, not abc)" in waiting.missing(REVISIONS)


def test_a_database_with_every_revision_is_ready(database: psycopg2.extensions.connection, waiting: ModuleType) -> None:
    migrate(database, REVISIONS)
    assert waiting.missing(REVISIONS) is None


def test_a_database_that_gives_its_user_no_rights_yet_is_not_ready(
    database: psycopg2.extensions.connection, waiting: ModuleType
) -> None:
    migrate(database, REVISIONS)
    execute(database, "REVOKE ALL ON alembic_version FROM airflow")
    assert waiting.missing(REVISIONS) == "this user of the metadata database has no rights yet"


def test_waiting_ends_with_an_error_message(
    no_database: None, waiting: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    revisions = tmp_path / "revisions.txt"
    revisions.write_text("alembic_version abc\n")
    monkeypatch.setattr(waiting, "REVISIONS", revisions)
    monkeypatch.setattr(waiting, "TIMEOUT_SECONDS", -1)
    with pytest.raises(SystemExit, match=r"^error: the metadata database does not answer .* see the log of the Job"):
        waiting.main()


def heartbeat(database: psycopg2.extensions.connection, seconds_ago: int, host: str = socket.getfqdn()) -> None:
    execute(
        database,
        "CREATE TABLE IF NOT EXISTS job (job_type text, hostname text, latest_heartbeat timestamptz)",
        f"INSERT INTO job VALUES ('TriggererJob', '{host}', now() - interval '{seconds_ago} seconds')",
    )


def probe(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    module = program("heartbeat")
    (folder / "connection").write_text(os.environ[VARIABLE])
    monkeypatch.setattr(module, "CONNECTION", folder / "connection")
    monkeypatch.setattr("sys.argv", ["heartbeat.py", "TriggererJob"])
    module.main()


def test_a_component_with_a_fresh_heartbeat_is_alive(
    database: psycopg2.extensions.connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heartbeat(database, seconds_ago=500)
    heartbeat(database, seconds_ago=5)
    probe(monkeypatch, tmp_path)


def test_a_component_that_stopped_its_heartbeat_fails_the_probe(
    database: psycopg2.extensions.connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heartbeat(database, seconds_ago=90)
    heartbeat(database, seconds_ago=5, host="another-pod")
    with pytest.raises(SystemExit, match=r"TriggererJob of .* has had no heartbeat for 60 s"):
        probe(monkeypatch, tmp_path)


def test_a_database_that_does_not_answer_does_not_restart_a_component(
    no_database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(monkeypatch, tmp_path)
    assert "does not answer" in capsys.readouterr().out


def test_the_revisions_that_an_image_waits_for_are_those_of_its_packages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "revisions.py")],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [table for table, _ in lines] == ["alembic_version", "alembic_version_fab"]
    assert all(revision not in ("None", "") for _, revision in lines)
