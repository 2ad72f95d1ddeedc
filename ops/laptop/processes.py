"""Start, find and stop the services' processes.

Each service leads its own session, so that its child processes are found even after the leader has died. A record on
disk (process id, start time, fingerprint of command and settings) tells later commands what is running. A recorded
process is trusted only if it runs as this user or, for root, as the unprivileged user.
"""

import contextlib
import hashlib
import json
import os
import pwd
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.errors import OperationError
from ops.laptop.home import Home, write_atomically
from ops.loopback import port_is_free
from ops.process_environment import SYSTEM, allowed

STOP_SECONDS = 20.0
POLL_INTERVAL_SECONDS = 0.2
ANSWER_SECONDS = 5.0  # enough for a server that is busy on few cores
BUSY_SECONDS = 30.0  # how long a running process may not answer before it is replaced
LOG_LINES_IN_ERROR = 15
LOG_BYTES = 20 * 2**20  # a larger log is rotated when its service starts
UNPRIVILEGED_USER = "pgserver"  # runs the programs that refuse to run as root
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
START_TIME_FIELD = 22  # of /proc/<pid>/stat, see proc_pid_stat(5)
WALL_CLOCK_TOLERANCE_SECONDS = 5.0


@dataclass(frozen=True)
class Service:
    """A process to keep running.

    Attributes:
        name: Its name, as in `make logs S=<name>`.
        command: The program and its arguments, without secrets: every user of the machine can read them.
        environment: Its settings and secrets, in addition to the system's variables.
        port: The loopback port that it listens on, or None.
        healthy: Returns whether it works; called while its process is alive.
        user: The user to run it as if the current user is root and the program refuses to run as root.
        stop_signal: The signal for a graceful stop.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int | None
    healthy: Callable[[], bool]
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def fingerprint(self) -> str:
        """A digest of the command, environment and port: a running process with another one is outdated."""
        wanted = [self.command, sorted(self.environment.items()), self.port]
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """The record of a started process.

    Attributes:
        name: The name of the service.
        pid: The process id, which is also the session id.
        boot: The id of the boot in which it was started.
        started: Its start time on a monotonic clock, which distinguishes it from a later process with the same id.
        fingerprint: The service's fingerprint at the start.
        stop_signal: The number of the signal for a graceful stop.
    """

    name: str
    pid: int
    boot: str
    started: float
    fingerprint: str
    stop_signal: int

    def leader(self) -> psutil.Process | None:
        """Return the process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = self.boot == current_boot() and start_time(self.pid) == self.started
            alive = same and _is_ours(process) and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, psutil.Error):
            return None
        return process if alive else None

    def members(self) -> list[psutil.Process]:
        """Return the session's live processes: the leader and its descendants."""
        if self.boot != current_boot():
            return []
        found = []
        for process in psutil.process_iter():
            try:
                in_session = os.getsid(process.pid) == self.pid and start_time(process.pid) >= self.started
                if in_session and _is_ours(process):
                    found.append(process)
            except (OSError, psutil.Error):  # the process has ended
                continue
        return found

    def listens_on(self, port: int) -> bool:
        """Return whether the leader itself listens on a port, which another process may share."""
        leader = self.leader()
        try:
            sockets = leader.net_connections("tcp") if leader else []
        except psutil.Error:  # the process has ended
            return False
        return any(each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in sockets)


def current_boot() -> str:
    """Return the id of the current boot; empty on macOS, whose start times do not depend on it."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def start_time(pid: int) -> float:
    """Return when a process started, in seconds.

    On Linux, the time counts from the boot. On macOS, it is the wall-clock time recorded at the start.

    Raises:
        OSError, psutil.Error: The process does not exist.
    """
    if psutil.LINUX:
        # The second field, the program's name in parentheses, may contain any character.
        fields = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[START_TIME_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
    return psutil.Process(pid).create_time()


def records(home: Home) -> dict[str, Record]:
    """Return the records of the processes that were started and not stopped, by name; delete damaged records."""
    found = {}
    for path in sorted(home.records.glob("*.json")):
        try:
            fields = json.loads(path.read_text())
            found[path.stem] = Record(**(_converted(fields) if "created" in fields else fields))
        except (KeyError, TypeError, ValueError):
            path.unlink()
    return found


def _converted(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of an earlier version, whose start time, `created`, is wall-clock time."""
    created = fields.pop("created")
    started = created - psutil.boot_time() if psutil.LINUX else created
    with contextlib.suppress(OSError, psutil.Error):
        exact = start_time(fields["pid"])
        # The wall clock may have been adjusted since.
        if abs(exact - started) <= WALL_CLOCK_TOLERANCE_SECONDS:
            started = exact
    return {**fields, "boot": current_boot(), "started": started}


def _is_ours(process: psutil.Process) -> bool:
    """Return whether a process runs as this user or, if this user is root, as the unprivileged user."""
    user, me = process.uids().effective, os.geteuid()
    return user == me or (me == 0 and process.username() == UNPRIVILEGED_USER)


def is_running(home: Home, service: Service) -> bool:
    """Return whether the service's process is alive, has the current settings and is healthy.

    A process that does not answer gets BUSY_SECONDS before it counts as unhealthy, because replacing a busy process
    loses its work.
    """
    record = records(home).get(service.name)
    if record is None or record.fingerprint != service.fingerprint:
        return False
    deadline = time.monotonic() + BUSY_SECONDS
    while record.leader() is not None:
        if service.healthy():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_SECONDS)
    return False


def _path(home: Home, name: str) -> Path:
    return home.records / f"{name}.json"


def log_file(home: Home, name: str) -> Path:
    """Return the log file of the service `name`."""
    return home.logs / f"{name}.log"


def start(home: Home, service: Service) -> None:
    """Stop what is left of an earlier process of the service, then start it."""
    stop(home, service.name)
    spawn(home, service)


def spawn(home: Home, service: Service, record_as: str | None = None) -> Record:
    """Start a process of the service and record it under the service's name or `record_as`."""
    path = log_file(home, service.name)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    with path.open("ab") as log:
        process = subprocess.Popen(
            service.command,
            env=allowed(SYSTEM) | dict(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            **as_user(service.user),
        )
    record = Record(
        name=record_as or service.name,
        pid=process.pid,
        boot=current_boot(),
        started=start_time(process.pid),
        fingerprint=service.fingerprint,
        stop_signal=int(service.stop_signal),
    )
    write_atomically(_path(home, record.name), json.dumps(asdict(record)), mode=0o600)
    return record


def as_user(name: str | None) -> dict[str, Any]:
    """Return the arguments with which subprocess runs a program as the user `name`, without the current groups."""
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}


def rename(home: Home, record: Record, name: str) -> None:
    """Record a process under another name, replacing that name's record."""
    write_atomically(_path(home, name), json.dumps(asdict(replace(record, name=name))), mode=0o600)
    _path(home, record.name).unlink()


def wait_until_healthy(home: Home, service: Service, seconds: float) -> None:
    """Wait until a started service is healthy.

    Raises:
        OperationError: Its process ended, or it was not healthy after `seconds`; the message has the end of its log.
    """
    record = records(home)[service.name]
    wait_for(home, service, record, seconds)


def wait_for(home: Home, service: Service, record: Record, seconds: float) -> None:
    """Wait until the process of `record` is healthy; see `wait_until_healthy`."""
    deadline = time.monotonic() + seconds
    while not service.healthy():
        if record.leader() is None:
            raise OperationError(f"{service.name} exited during startup\n{log_tail(home, service.name)}")
        if time.monotonic() > deadline:
            raise OperationError(
                f"{service.name} did not answer within {seconds:.0f} s\n{log_tail(home, service.name)}"
            )
        time.sleep(POLL_INTERVAL_SECONDS)


def stop(home: Home, name: str) -> bool:
    """Stop the service `name` and its child processes; return whether any was running.

    The leader gets its stop signal and time for a graceful stop; processes that remain are killed.
    """
    record = records(home).get(name)
    if record is None:
        return False
    found = end(record)
    _path(home, name).unlink(missing_ok=True)
    return found


def end(record: Record) -> bool:
    """Stop the process of `record` and its child processes; return whether any was running."""
    leader, members = record.leader(), record.members()
    if leader is not None:
        leader.send_signal(record.stop_signal)
        psutil.wait_procs([leader], timeout=STOP_SECONDS)
    for process in record.members():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(members, timeout=5)
    return bool(members)


def free_port(preferred: int, taken: set[int], twin: int = 0) -> int:
    """Return the first free port from `preferred` on.

    Args:
        preferred: The first port to try.
        taken: Ports that are reserved for other services.
        twin: The offset of a second port that the same server opens and that must be free, too.

    Raises:
        OperationError: None of 200 ports is free.
    """
    for port in range(preferred, preferred + 200):
        if port not in taken and port_is_free(port) and port_is_free(port + twin):
            return port
    raise OperationError(
        f"no port between {preferred} and {preferred + 199} is free: stop a program that listens on one of them"
    )


def log_tail(home: Home, name: str) -> str:
    """Return the path and the last lines of a service's log."""
    path = log_file(home, name)
    lines = path.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:]
    return "\n".join([f"last lines of its log {path}:", *(f"  {line}" for line in lines)])


def answers(address: str, verify: ssl.SSLContext | bool = True) -> bool:
    """Return whether a web server answers this address with status 200."""
    try:
        return httpx.get(address, timeout=ANSWER_SECONDS, verify=verify, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
