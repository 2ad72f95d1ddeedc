import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import psutil
import pytest

from infra.errors import OperationError
from ops.laptop import ports, processes
from ops.laptop.home import Home
from ops.laptop.processes import Service
from ops.loopback import LOOPBACK, port_is_free

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)")
WITH_CHILD = (
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']); "
    "print('up', flush=True); time.sleep(300)",
)


def service(home: Home, command: tuple[str, ...] = SLEEPER, **environment: str) -> Service:
    log = processes.log_file(home, "sleeper")
    return Service("sleeper", command, environment, None, healthy=lambda: log.exists() and "up" in log.read_text())


@pytest.fixture(autouse=True)
def _nothing_is_left_running(home: Home) -> Iterator[None]:
    yield
    processes.stop(home, "sleeper")


@dataclass(frozen=True)
class Clock:
    """The wall clock, from which psutil derives the start times of processes on Linux."""

    monkeypatch: pytest.MonkeyPatch

    def step(self, seconds: float) -> None:
        """Adjust the clock, and with it the boot time that the kernel reports."""
        before, boot = psutil.Process().create_time(), psutil.boot_time()
        self.monkeypatch.setattr(psutil, "boot_time", lambda: boot + seconds)
        self.monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + seconds)
        assert psutil.Process().create_time() == pytest.approx(before + seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    if not psutil.LINUX:
        pytest.skip("the start times that other kernels report do not move with the clock")
    return Clock(monkeypatch)


def start(home: Home, wanted: Service) -> processes.Record:
    processes.start(home, wanted)
    processes.wait_until_healthy(home, wanted, 60)
    return processes.records(home)["sleeper"]


def wait_for_members(record: processes.Record, count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while len(record.members()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return record.members()


def test_a_started_service_is_running_and_a_stopped_one_is_not(home: Home) -> None:
    wanted = service(home)
    record = start(home, wanted)
    assert processes.is_running(home, wanted)
    assert processes.stop(home, "sleeper")
    assert not psutil.pid_exists(record.pid)
    assert not processes.is_running(home, wanted)
    assert not processes.stop(home, "sleeper")


def test_a_service_with_other_settings_does_not_count_as_running(home: Home) -> None:
    start(home, service(home))
    assert not processes.is_running(home, service(home, LEVEL="debug"))


def test_child_processes_of_a_killed_service_are_stopped(home: Home) -> None:
    record = start(home, service(home, WITH_CHILD))
    members = wait_for_members(record, 2)
    assert len(members) == 2
    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)
    assert record.leader() is None
    assert len(record.members()) == 1
    processes.stop(home, "sleeper")
    assert not any(process.is_running() for process in members)


def test_a_process_with_a_reused_id_is_not_stopped(home: Home) -> None:
    record = start(home, service(home))
    stranger = replace(record, started=record.started + 1)
    assert stranger.leader() is None
    assert not processes.end(stranger)
    assert psutil.pid_exists(record.pid)


@pytest.mark.parametrize("step", [2, -2])
def test_processes_are_found_after_an_adjustment_of_the_wall_clock(home: Home, clock: Clock, step: float) -> None:
    wanted = service(home)
    pid = start(home, wanted).pid
    clock.step(step)
    assert processes.records(home)["sleeper"].leader() == psutil.Process(pid)
    assert processes.is_running(home, wanted)
    assert processes.stop(home, "sleeper")
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("step", [0, 2, -2])
def test_a_record_of_an_earlier_version_is_converted(home: Home, clock: Clock, step: float) -> None:
    record = start(home, service(home))
    write_earlier_record(home, record, created=psutil.Process(record.pid).create_time())
    clock.step(step)
    assert processes.is_running(home, service(home))
    assert processes.stop(home, "sleeper")
    assert not psutil.pid_exists(record.pid)


def test_a_process_with_a_reused_id_in_a_record_of_an_earlier_version_is_not_stopped(home: Home) -> None:
    record = start(home, service(home))
    write_earlier_record(home, record, created=psutil.Process(record.pid).create_time() + 60)
    assert not processes.stop(home, "sleeper")
    assert psutil.pid_exists(record.pid)
    assert processes.end(record)


def write_earlier_record(home: Home, record: processes.Record, created: float) -> None:
    fields = {key: value for key, value in asdict(record).items() if key not in ("boot", "started")}
    (home.records / "sleeper.json").write_text(json.dumps({**fields, "created": created}))


def test_a_record_of_an_earlier_boot_is_ignored(home: Home) -> None:
    record = start(home, service(home))
    before = replace(record, boot="another")
    assert (before.leader(), before.members()) == (None, [])


def test_the_process_of_another_user_is_never_stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    record = start(home, service(home))
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        assert not processes.end(record)
    assert psutil.pid_exists(record.pid)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_is_ignored(home: Home, text: str) -> None:
    (home.records / "sleeper.json").write_text(text)
    assert processes.records(home) == {}


def test_a_busy_process_is_not_replaced_at_once(home: Home) -> None:
    answers = iter([False, False, True])
    start(home, service(home))
    assert processes.is_running(home, replace(service(home), healthy=lambda: next(answers)))


def test_a_process_that_does_not_answer_for_long_counts_as_unhealthy(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "BUSY_SECONDS", 0.3)
    start(home, service(home))
    assert not processes.is_running(home, replace(service(home), healthy=lambda: False))


def test_the_error_for_a_service_that_exits_has_the_end_of_its_log(home: Home) -> None:
    failing = (sys.executable, "-c", "import sys; sys.exit('no such database')")
    wanted = Service("sleeper", failing, {}, None, healthy=lambda: False)
    processes.start(home, wanted)
    with pytest.raises(OperationError, match=r"sleeper exited during startup(.|\n)*no such database"):
        processes.wait_until_healthy(home, wanted, 60)


def test_a_service_that_never_answers_is_reported_after_the_timeout(home: Home) -> None:
    wanted = Service("sleeper", SLEEPER, {}, None, healthy=lambda: False)
    processes.start(home, wanted)
    with pytest.raises(OperationError, match="sleeper did not answer within 0 s"):
        processes.wait_until_healthy(home, wanted, 0.3)


def test_a_large_log_is_rotated_when_its_service_starts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    log = processes.log_file(home, "sleeper")
    log.write_text("a line of an earlier process\n")
    start(home, service(home))
    assert log.with_suffix(".log.1").read_text() == "a line of an earlier process\n"
    assert log.read_text() == "up\n"


def test_a_port_in_use_is_skipped(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free(port)
        assert processes.free_port(port, taken=set()) > port


def test_ports_are_kept_unless_another_program_uses_them(home: Home) -> None:
    first = ports.choose(home)
    assert ports.choose(home) == first
    assert ports.load(home) == first
    with socket.socket() as taken:
        taken.bind((LOOPBACK, first["mlflow"]))
        taken.listen()
        second = ports.choose(home)
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"mlflow"}
    assert len(set(second.values())) == len(second)


def test_commands_report_a_home_in_which_nothing_was_started(home: Home) -> None:
    with pytest.raises(OperationError, match=r"nothing was ever started in .*: run `make up`"):
        ports.load(home)


def test_a_process_is_distinguished_from_another_on_the_same_port(home: Home) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        record = start(home, service(home))
        assert not record.listens_on(port)
        processes.stop(home, "sleeper")
        program = (
            "import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); "
            f"s.bind(('{LOOPBACK}', {port})); s.listen(); print('up', flush=True); time.sleep(300)"
        )
        processes.log_file(home, "sleeper").unlink()
        assert start(home, service(home, (sys.executable, "-c", program))).listens_on(port)
