"""The scripts of a rehearsal, on a server like RDS, where the administrator is not a superuser."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ops.releases.rehearsal import Contents
from ops.releases.rehearsal_jobs import script
from tests.database_server import Server, running
from tests.programs import write_program

COPY = "rehearsal_0123abcd"
GIBIBYTE = 2**30


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        with server.connect("airflow", "one", "airflow") as connection:
            connection.execute("CREATE TABLE alembic_version (version_num text)")
            connection.execute("INSERT INTO alembic_version VALUES ('4f')")
            connection.execute("CREATE TABLE variable (id serial PRIMARY KEY, val text)")
            connection.execute("INSERT INTO variable (val) SELECT 'grüße' FROM generate_series(1, 500)")
            connection.execute("CREATE TABLE unknown (text text)")
        yield server


@pytest.fixture(autouse=True)
def no_copy(server: Server) -> Iterator[None]:
    yield
    with server.connect("dbadmin", "admin", "postgres") as connection:
        for name in copies(server):
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def run(
    server: Server, folder: Path, *names: str, copy: str = COPY, disk_bytes: int = GIBIBYTE, **other: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", "".join(map(script, names))],
        env={
            **server.environment("airflow", "one"),
            "COPY": copy,
            "DISK_BYTES": str(disk_bytes),
            "TMPDIR": str(folder),
            **other,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def copies(server: Server) -> list[str]:
    with server.connect("dbadmin", "admin", "postgres") as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'rehearsal%'").fetchall()
    return [name for (name,) in found]


def test_the_copy_has_what_the_database_has_and_belongs_to_the_same_owner(server: Server, tmp_path: Path) -> None:
    done = run(server, tmp_path, "copy_database", "count_rows")
    assert done.returncode == 0, done.stderr
    contents = Contents.of(done.stdout)
    assert contents.revisions == {"alembic_version": "4f"}
    assert contents.rows == {"variable": 500}
    assert contents.size > 1_000_000
    with server.connect("airflow", "one", COPY) as connection:
        connection.execute("ALTER TABLE variable ADD COLUMN more text")
        connection.execute("INSERT INTO variable (val) VALUES ('next')")
        assert connection.execute("SELECT max(id) FROM variable").fetchone() == (501,)
    assert not server.may_connect("mlflow", "two", COPY)


def test_what_happens_to_the_copy_does_not_happen_to_the_database(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path, "copy_database")
    with server.connect("airflow", "one", COPY) as connection:
        connection.execute("DELETE FROM variable")
        connection.execute("UPDATE alembic_version SET version_num = '9a'")
    after = Contents.of(run(server, tmp_path, "count_rows").stdout)
    assert (after.revisions, after.rows) == ({"alembic_version": "9a"}, {"variable": 0})
    with server.connect("airflow", "one", "airflow") as connection:
        assert connection.execute("SELECT count(*) FROM variable").fetchone() == (500,)


def test_the_database_can_be_written_to_while_it_is_copied(server: Server, tmp_path: Path) -> None:
    with server.connect("airflow", "one", "airflow") as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO variable (val) VALUES ('in between')")
        done = run(server, tmp_path, "copy_database", "count_rows")
    assert Contents.of(done.stdout).rows == {"variable": 500}


def test_dropping_leaves_no_copy_even_while_clients_are_connected(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path, "copy_database")
    connection = server.connect("airflow", "one", COPY)
    assert run(server, tmp_path, "drop_database").returncode == 0
    assert copies(server) == []
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    assert run(server, tmp_path, "drop_database").returncode == 0


def test_the_next_rehearsal_drops_the_copy_of_a_killed_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    run(server, tmp_path / "first", "copy_database", copy="rehearsal_dead0000")
    assert copies(server) == ["rehearsal_dead0000"]
    run(server, tmp_path, "copy_database")
    assert copies(server) == [COPY]


def test_a_copy_that_would_fill_the_disk_is_not_begun(server: Server, tmp_path: Path) -> None:
    done = run(server, tmp_path, "copy_database", disk_bytes=40 * 2**20)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith("of 40 MiB are in use")
    assert copies(server) == []


def with_dump(server: Server, folder: Path, *lines: str) -> str:
    """A PATH with a `pg_dump` script of these lines."""
    dump = write_program(folder / "bin" / "pg_dump", "\n".join(("#!/bin/sh", *lines)))
    return f"{dump.parent}:{server.environment('airflow', 'one')['PATH']}"


def test_a_dump_that_breaks_off_is_a_failure(server: Server, tmp_path: Path) -> None:
    path = with_dump(server, tmp_path, "echo 'CREATE TABLE half (number int);'", "echo 'it broke off' >&2", "exit 1")
    done = run(server, tmp_path, "copy_database", "count_rows", PATH=path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "it broke off"


def test_a_statement_that_fails_in_the_copy_is_a_failure(server: Server, tmp_path: Path) -> None:
    path = with_dump(server, tmp_path, "echo 'CREATE TABLE it (number nothing);'")
    done = run(server, tmp_path, "copy_database", "count_rows", PATH=path)
    assert done.returncode != 0
    assert 'type "nothing" does not exist' in done.stderr


def test_a_wrong_password_is_reported_without_showing_it(server: Server, tmp_path: Path) -> None:
    done = run(server, tmp_path, "copy_database", PGPASSWORD="no-such-secret")
    assert done.returncode != 0
    assert "password authentication failed" in done.stderr
    assert "no-such-secret" not in done.stdout + done.stderr
