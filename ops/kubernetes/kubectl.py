"""Run `kubectl` for exec and port-forward."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from infra.errors import OperationError
from ops.kubernetes.cluster import Cluster
from ops.loopback import LOOPBACK, port_is_free

TIMEOUT_SECONDS = 20
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
    local = wanted if wanted and port_is_free(wanted) else 0
    with kubectl(cluster) as command:
        process = subprocess.Popen(
            [
                *command,
                "--namespace",
                namespace,
                "port-forward",
                "--address",
                LOOPBACK,
                target,
                f"{local or ''}:{port}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _forwarded_port(cast(IO[bytes], process.stdout), target)
        finally:
            process.terminate()
            process.wait()


def _forwarded_port(output: IO[bytes], target: str) -> int:
    text, deadline = "", time.monotonic() + TIMEOUT_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while selector.select(max(0, deadline - time.monotonic())):
            part = os.read(output.fileno(), 4096).decode(errors="replace")
            text += part
            if found := FORWARDING.search(text):
                return int(found[1])
            if not part:
                break
    raise OperationError(f"{target} cannot be reached ({' '.join(text.split()) or 'no answer'}): see `make status`")
