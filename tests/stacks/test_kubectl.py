"""Commands that run `kubectl`, here a program that behaves like it."""

import socket
import time
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.kubernetes import kubectl as module
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.kubectl import answer_of, forwarded
from ops.loopback import LOOPBACK
from tests.servers import free_port

CLUSTER = Cluster("kind-test", None)
FORWARDS = "echo 'Forwarding from 127.0.0.1:41234 -> 8080'\n"
SERVICE = "service/airflow-api-server"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `kubectl` that records its arguments; tests add what it does next."""
    file = tmp_path / "bin" / "kubectl"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return file


def does(program: Path, script: str) -> None:
    program.write_text(program.read_text() + script)


def arguments(program: Path) -> str:
    return (program.parent.parent / "arguments").read_text().strip()


def test_the_forwarded_port_is_the_one_that_kubectl_prints(program: Path) -> None:
    does(program, f"sleep 0.1\n{FORWARDS}exec sleep 60\n")
    begun = time.monotonic()
    with forwarded(CLUSTER, "airflow", SERVICE, 8080) as port:
        assert port == 41234
    assert time.monotonic() - begun < 10
    assert arguments(program) == (
        f"--context kind-test --namespace airflow port-forward --address 127.0.0.1 {SERVICE} :8080"
    )


def test_the_wanted_port_is_used_unless_it_is_taken(program: Path) -> None:
    does(program, FORWARDS)
    wanted = free_port()
    with forwarded(CLUSTER, "airflow", SERVICE, 8080, wanted):
        pass
    assert arguments(program).endswith(f" {wanted}:8080")
    with socket.create_server((LOOPBACK, wanted)), forwarded(CLUSTER, "airflow", SERVICE, 8080, wanted):
        pass
    assert arguments(program).endswith(" :8080")


def test_a_service_that_cannot_be_reached_is_one_sentence(program: Path) -> None:
    does(program, 'echo "error: unable to forward port\nbecause the pod is not running" >&2\nexit 1\n')
    with (
        pytest.raises(
            OperationError,
            match=r"^service/airflow-api-server cannot be reached \(error: unable to forward port because the pod is "
            r"not running\): see `make status`$",
        ),
        forwarded(CLUSTER, "airflow", SERVICE, 8080),
    ):
        pass


def test_a_service_that_does_not_answer_in_time_is_an_error(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    does(program, "exec sleep 60\n")
    with (
        pytest.raises(OperationError, match=r"^service/airflow-api-server cannot be reached \(no answer\): see"),
        forwarded(CLUSTER, "airflow", SERVICE, 8080),
    ):
        pass


def test_many_connections_do_not_block_kubectl(program: Path, tmp_path: Path) -> None:
    written = tmp_path / "written"
    does(program, f"{FORWARDS}yes 'Handling connection for 41234' | head -n 10000\ntouch {written}\nexec sleep 60\n")
    with forwarded(CLUSTER, "airflow", SERVICE, 8080):
        deadline = time.monotonic() + 120
        while not written.exists():
            assert time.monotonic() < deadline, "kubectl is blocked"
            time.sleep(0.05)


def test_the_answer_of_a_command_is_its_output_or_none(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    does(program, 'case "$3" in say) echo " a word ";; sleep) exec sleep 60;; *) echo no; exit 1;; esac\n')
    assert answer_of(CLUSTER, "say") == "a word"
    assert answer_of(CLUSTER, "fail") is None
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    assert answer_of(CLUSTER, "sleep") is None


def test_access_to_a_cluster_is_in_a_file_of_the_user_only_while_kubectl_runs(program: Path, tmp_path: Path) -> None:
    access = {"current-context": "eks"}
    does(program, 'cat "$2"; ls -ld "$(dirname "$2")"\n')
    answer = answer_of(Cluster("eks", None, access), "version") or ""
    assert answer.startswith('{"current-context": "eks"}drwx------')
    assert sorted(file.name for file in tmp_path.iterdir()) == ["arguments", "bin"]


def test_a_missing_kubectl_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperationError, match=r"^kubectl is not on PATH: install it, see https://kubernetes\.io/docs"):
        answer_of(CLUSTER, "version")
