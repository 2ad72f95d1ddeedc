"""Servers that tests start on this machine's loopback address."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from ops.loopback import LOOPBACK

START_SECONDS = 120


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that no server has bound."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def image_registry(folder: Path) -> Iterator[str]:
    """Run Debian's `docker-registry` on an empty folder; give its address."""
    address = f"{LOOPBACK}:{free_port()}"
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": address},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    with subprocess.Popen(["docker-registry", "serve", str(file)], stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"http://{address}/v2/")
            yield address
        finally:
            server.terminate()


def wait_for(url: str, seconds: float = START_SECONDS) -> None:
    """Wait until a server that was started answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            httpx.get(url, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            assert time.monotonic() < deadline, f"{url} does not answer after {seconds:.0f} s"
            time.sleep(0.05)
