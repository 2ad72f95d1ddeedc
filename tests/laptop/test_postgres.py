"""Tests of PostgreSQL after a power failure, and with programs that are closed to its user."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import psutil
import pytest

from infra.errors import OperationError
from ops.laptop import postgres, processes
from ops.laptop.home import Home
from ops.laptop.processes import Service, as_user
from tests.servers import free_port


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    home = Home(Path(mkdtemp(prefix="postgres-")) / "home")  # pytest's folder is closed to other users
    home.create()
    postgres.prepare(home)
    yield home
    processes.stop(home, "postgres")
    home.delete()
    home.root.parent.rmdir()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not closed to other users."""
    with TemporaryDirectory(prefix="postgres-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def server(home: Home) -> Service:
    """A running PostgreSQL server."""
    service = postgres.service(home, free_port())
    start(home, service)
    return service


def start(home: Home, service: Service) -> None:
    postgres.prepare(home)
    processes.start(home, service)
    processes.wait_until_healthy(home, service, 180)


def lock(home: Home) -> Path:
    return home.database / "postmaster.pid"


def kill(home: Home) -> None:
    """Kill the server, so that its lock file remains as after a power failure, and delete its record."""
    leader = processes.records(home)["postgres"].leader()
    assert leader
    family = [leader, *leader.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=60)
    (home.records / "postgres.json").unlink()
    assert lock(home).exists()


def test_a_server_whose_process_id_was_reused_starts_again(home: Home, server: Service) -> None:
    kill(home)
    with subprocess.Popen(["sleep", "300"], **as_user(server.user)) as other:
        try:
            rest = lock(home).read_text().partition("\n")[2]
            lock(home).write_text(f"{other.pid}\n{rest}")
            start(home, server)
        finally:
            other.kill()
    assert processes.is_running(home, server)


@pytest.mark.parametrize("content", ["", "\0" * 64, "no number\n", "-5\n"])
def test_a_server_with_a_damaged_lock_file_starts_again(home: Home, server: Service, content: str) -> None:
    kill(home)
    lock(home).write_text(content)
    start(home, server)
    assert processes.is_running(home, server)


def test_the_lock_of_a_running_server_is_never_removed(
    home: Home, server: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "EXIT_TIMEOUT_SECONDS", 0.5)
    record = home.records / "postgres.json"
    kept, locked = record.read_text(), lock(home).read_text()
    record.unlink()
    with pytest.raises(OperationError, match=r"PostgreSQL runs on .*: stop it with `kill -INT \d+`"):
        postgres.prepare(home)
    assert lock(home).read_text() == locked
    record.write_text(kept)
    assert processes.is_running(home, server)


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another user for root alone")
def test_only_its_user_may_traverse_the_home(home: Home, server: Service) -> None:
    status = home.root.stat()
    assert stat.S_IMODE(status.st_mode) == 0o710
    assert status.st_gid == psutil.Process(processes.records(home)["postgres"].pid).gids().effective


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another user for root alone")
@pytest.mark.parametrize("umask", [0o077, 0o027, 0o007])
def test_its_programs_are_opened_to_its_user_whatever_the_umask_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    before = os.umask(umask)
    try:
        programs, libraries = folder / "package" / "install" / "bin", folder / "package.libs"
        programs.mkdir(parents=True)
        libraries.mkdir()
        (libraries / "libpq").write_text("a library")
        (programs / "postgres").write_text(f"#!/bin/sh\ncat {libraries}/libpq")
        (programs / "postgres").chmod(0o777 & ~umask)
    finally:
        os.umask(before)
    monkeypatch.setattr(postgres, "PROGRAMS", programs)
    monkeypatch.setattr(postgres, "LIBRARIES", libraries)
    home = Home(folder / "home")
    home.create()
    home.database.mkdir()
    (home.database / "PG_VERSION").write_text("18")
    postgres.prepare(home)
    ran = subprocess.run([programs / "postgres"], **as_user("pgserver"), check=True, capture_output=True, text=True)
    assert ran.stdout == "a library"
    assert not (libraries / "libpq").stat().st_mode & stat.S_IWOTH
