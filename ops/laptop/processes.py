"""Start, find and stop the services' processes.

Each service is the leader of a session of its own, so that what it forked is found even when the leader has died. A
record on disk (process id, start time, fingerprint of command and settings) tells a later command what is running.
A record alone does not make a process ours: it must run as this user, or as the one that stands in for root.
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
POLL_SECONDS = 0.2
ANSWER_SECONDS = 5.0  # a server that is busy on few cores still answers within them
BUSY_SECONDS = 30.0  # how long a process that was started may be too busy to answer before it is replaced
LOG_LINES_IN_ERROR = 15
LOG_BYTES = 20 * 2**20  # a larger log is put aside when its service starts
UNPRIVILEGED_USER = "pgserver"  # runs, in place of root, what refuses to run as root
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
START_TIME_FIELD = 22  # of /proc/<pid>/stat, see proc_pid_stat(5)
WALL_CLOCK_TOLERANCE_SECONDS = 5.0


@dataclass(frozen=True)
class Service:
    """One process to be kept running.

    Attributes:
        name: What `make logs S=<name>` takes.
        command: The program and its arguments; nothing secret, for every user of the machine can read them.
        environment: The settings and secrets, on top of what every program finds.
        port: The loopback port that it listens on, or None.
        healthy: Whether it does its work; asked while its process lives.
        user: The user to run as, where this runs as root and the program refuses to.
        stop_signal: The signal that ends it in order.
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
        """A digest of all that makes a running process the one that is wanted."""
        wanted = [self.command, sorted(self.environment.items()), self.port]
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """What is known of a started process.

    Attributes:
        pid: The process id, which is the session's id too.
        boot: The boot of the machine in which it was started.
        started: Its start time by a clock that is never stepped, which tells it from a later process of the same id.
        fingerprint: The service's fingerprint when it was started.
        stop_signal: The number of the signal that ends it in order.
    """

    name: str
    pid: int
    boot: str
    started: float
    fingerprint: str
    stop_signal: int

    def leader(self) -> psutil.Process | None:
        """Return the process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = self.boot == current_boot() and start_time(self.pid) == self.started
            alive = same and _is_ours(process) and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, psutil.Error):
            return None
        return process if alive else None

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the session, the leader and what it forked."""
        if self.boot != current_boot():
            return []
        found = []
        for process in psutil.process_iter():
            try:
                in_session = os.getsid(process.pid) == self.pid and start_time(process.pid) >= self.started
                if in_session and _is_ours(process):
                    found.append(process)
            except (OSError, psutil.Error):  # it ended meanwhile
                continue
        return found

    def listens_on(self, port: int) -> bool:
        """Say whether the leader itself, and not another that shares the port, takes connections on it."""
        leader = self.leader()
        try:
            sockets = leader.net_connections("tcp") if leader else []
        except psutil.Error:  # it ended meanwhile
            return False
        return any(each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in sockets)


def current_boot() -> str:
    """Return what tells this boot of the machine from others; macOS' start times need no such thing."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def start_time(pid: int) -> float:
    """Return when a process started, in seconds on a clock that is never stepped.

    Linux counts from the boot. macOS keeps what the wall clock said at the start.

    Raises:
        OSError, psutil.Error: There is no such process.
    """
    if psutil.LINUX:
        # The second field, the program's name in parentheses, may hold anything.
        fields = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[START_TIME_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
    return psutil.Process(pid).create_time()


def records(home: Home) -> dict[str, Record]:
    """Return what was started in this home and not yet stopped, by name; a damaged record names nothing."""
    found = {}
    for path in sorted(home.records.glob("*.json")):
        try:
            fields = json.loads(path.read_text())
            found[path.stem] = Record(**(_of_earlier_version(fields) if "created" in fields else fields))
        except (KeyError, TypeError, ValueError):
            path.unlink()
    return found


def _of_earlier_version(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a record that has the wall clock's time at the start, `created`, with the time that is kept now."""
    created = fields.pop("created")
    started = created - psutil.boot_time() if psutil.LINUX else created
    with contextlib.suppress(OSError, psutil.Error):
        exact = start_time(fields["pid"])
        # The clock may have been stepped since.
        if abs(exact - started) <= WALL_CLOCK_TOLERANCE_SECONDS:
            started = exact
    return {**fields, "boot": current_boot(), "started": started}


def _is_ours(process: psutil.Process) -> bool:
    """Say whether the process runs as this user, or as the one that stands in for root."""
    user, me = process.uids().effective, os.geteuid()
    return user == me or (me == 0 and process.username() == UNPRIVILEGED_USER)


def is_running(home: Home, service: Service) -> bool:
    """Say whether the service's process lives, was started with the same settings and does its work.

    A process that is too busy to answer is given time: to replace it would cost what it is busy with.
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
        time.sleep(POLL_SECONDS)
    return False


def _path(home: Home, name: str) -> Path:
    return home.records / f"{name}.json"


def log_file(home: Home, name: str) -> Path:
    """Return where the output of the service `name` goes."""
    return home.logs / f"{name}.log"


def start(home: Home, service: Service) -> None:
    """Start the service, after what is left of an earlier process of its name has been stopped."""
    stop(home, service.name)
    spawn(home, service)


def spawn(home: Home, service: Service, record_as: str | None = None) -> Record:
    """Start a process of the service and remember it under the service's name or another."""
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
    """Return the arguments with which subprocess starts a program as the user `name`, without this one's groups."""
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}


def rename(home: Home, record: Record, name: str) -> None:
    """Remember a process under another name, in place of what that name stood for."""
    write_atomically(_path(home, name), json.dumps(asdict(replace(record, name=name))), mode=0o600)
    _path(home, record.name).unlink()


def wait_until_healthy(home: Home, service: Service, seconds: float) -> None:
    """Wait until the started service does its work.

    Raises:
        OperationError: Its process ended, or it was not healthy after `seconds`; the end of its log is in the message.
    """
    record = records(home)[service.name]
    wait_for(home, service, record, seconds)


def wait_for(home: Home, service: Service, record: Record, seconds: float) -> None:
    """Wait like `wait_until_healthy`, for the process of `record`."""
    deadline = time.monotonic() + seconds
    while not service.healthy():
        if record.leader() is None:
            raise OperationError(f"{service.name} ended while it was starting\n{log_tail(home, service.name)}")
        if time.monotonic() > deadline:
            raise OperationError(
                f"{service.name} did not answer within {seconds:.0f} s\n{log_tail(home, service.name)}"
            )
        time.sleep(POLL_SECONDS)


def stop(home: Home, name: str) -> bool:
    """Stop the service `name` with all that it forked; say whether something was running.

    The leader gets its own signal and time to end in order; what is left after that is killed.
    """
    record = records(home).get(name)
    if record is None:
        return False
    found = end(record)
    _path(home, name).unlink(missing_ok=True)
    return found


def end(record: Record) -> bool:
    """End the process of `record` and all that it forked; say whether something was running."""
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
    """Return the first port from `preferred` on that nothing on this machine listens on, nor on its twin's.

    `twin` is the distance to another port that the same server takes.

    Raises:
        OperationError: None of the next 200 is free.
    """
    for port in range(preferred, preferred + 200):
        if port not in taken and port_is_free(port) and port_is_free(port + twin):
            return port
    raise OperationError(f"no port between {preferred} and {preferred + 199} is free: stop what listens there")


def log_tail(home: Home, name: str) -> str:
    """Return where the log is and its last lines."""
    path = log_file(home, name)
    lines = path.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:]
    return "\n".join([f"its log, {path}, ends with:", *(f"  {line}" for line in lines)])


def answers(address: str, verify: ssl.SSLContext | bool = True) -> bool:
    """Say whether a web server answers at this address, and with success."""
    try:
        return httpx.get(address, timeout=ANSWER_SECONDS, verify=verify, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
