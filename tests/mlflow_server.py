"""The MLflow server as it is deployed, but for its database, which is a file."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import mlflow_users
from infra.documents import REPOSITORY
from ops.laptop.mlflow import PROGRAM
from ops.loopback import LOOPBACK
from tests.servers import free_port, wait_for

PYTHON = Path(os.environ.get("MLFLOW_VENV", REPOSITORY / ".venv-mlflow"), "bin", "python")
START_SECONDS = 300
PASSWORDS = {user: f"password of {user}" for user in mlflow_users.USERS}


@dataclass(frozen=True)
class MlflowServer:
    """Where it is, its process and its database."""

    url: str
    process_id: int
    database: Path


def environment(folder: Path, port: int, root: str) -> dict[str, str]:
    """What it is started with."""
    return {
        **mlflow_users.server_environment(PASSWORDS),
        "MLFLOW_HOST": LOOPBACK,
        "MLFLOW_PORT": str(port),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"mlflow:5000,{LOOPBACK}:{port},localhost:*",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": root,
        "DO_NOT_TRACK": "true",
        "PATH": os.environ["PATH"],
    }


@contextmanager
def running(folder: Path, root: str, variables: Mapping[str, str]) -> Iterator[MlflowServer]:
    """Start it with artifacts in a folder of an object store, which it finds by variables."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing: these tests need an MLflow server; run `make test`, which installs one.")
    port = free_port()
    log = folder / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [PYTHON, PROGRAM], env={**environment(folder, port, root), **variables}, stdout=output, stderr=output
        ) as server,
    ):
        try:
            _wait_for_start(f"http://{LOOPBACK}:{port}/health", log)
            yield MlflowServer(f"http://{LOOPBACK}:{port}", server.pid, folder / "mlflow.db")
        finally:
            server.terminate()


def _wait_for_start(url: str, log: Path) -> None:
    try:
        wait_for(url, START_SECONDS)
    except AssertionError as error:
        pytest.fail(f"{error}; its log ends with:\n{log.read_text()[-2000:]}")
