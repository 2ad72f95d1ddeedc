"""Run `kubectl` for exec and port-forward."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import OperationError
from ops.kubernetes.cluster import Cluster
from ops.loopback import LOOPBACK, port_is_free

TIMEOUT_SECONDS = 20
POLL_INTERVAL_SECONDS = 0.05
# More than kubectl prints before it forwards.
OUTPUT_BYTES = 4096
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")


@contextmanager
def kubectl(cluster: Cluster) -> Iterator[list[str]]:
    """Yield a `kubectl` command line prefix for a cluster.

    Raises:
        OperationError: `kubectl` is not installed.
    """
    if not shutil.which("kubectl"):
        raise OperationError("kubectl is not on PATH: install it, see https://kubernetes.io/docs/tasks/tools/")
    if cluster.access is None:
        yield ["kubectl", "--context", cluster.context]
        return
    with tempfile.TemporaryDirectory() as folder:  # only this user can read it
        file = Path(folder) / "kubeconfig"
        file.write_text(json.dumps(dict(cluster.access)))
        yield ["kubectl", "--kubeconfig", str(file)]


def answer_of(cluster: Cluster, *arguments: str) -> str | None:
    """Return the stripped output of a command; None if it fails."""
    with kubectl(cluster) as command:
        try:
            result = subprocess.run(
                [*command, *arguments], check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return None
    return result.stdout.strip() if result.returncode == 0 else None


@contextmanager
def forwarded(cluster: Cluster, namespace: str, target: str, port: int, wanted: int = 0) -> Iterator[int]:
    """Forward a loopback port of this machine to a Service, and yield its number.

    The port is the wanted one, or a free one if that is 0 or taken.

    Raises:
        OperationError: The Service cannot be reached.
    """
    local = wanted if wanted and port_is_free(wanted) else ""
    options = ["--namespace", namespace, "port-forward", "--address", LOOPBACK, target, f"{local}:{port}"]
    # A file, because kubectl blocks once a pipe that is not read is full: it prints a line per connection.
    with kubectl(cluster) as command, tempfile.TemporaryFile() as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=subprocess.STDOUT)
        try:
            yield _forwarded_port(process, output.fileno(), target)
        finally:
            process.terminate()
            process.wait()


def _forwarded_port(process: subprocess.Popen[bytes], output: int, target: str) -> int:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        waiting = process.poll() is None and time.monotonic() < deadline
        text = os.pread(output, OUTPUT_BYTES, 0).decode(errors="replace")
        if found := FORWARDING.search(text):
            return int(found[1])
        if not waiting:
            break
        time.sleep(POLL_INTERVAL_SECONDS)
    raise OperationError(f"{target} cannot be reached ({' '.join(text.split()) or 'no answer'}): see `make status`")
