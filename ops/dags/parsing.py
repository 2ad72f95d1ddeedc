"""Parse DAGs as the dag-processor of a cluster does, in a process without the user's Airflow and without network."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import OperationError

TIMEOUT_SECONDS = 600

# Parsing DAGs must not need the network.
CLOSED = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def answer_of(program: str, folder: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Run a program that parses the DAGs in a folder, and return the JSON in its last line.

    Args:
        program: The source of the program, which finds the folder in its first argument.
        folder: The DAG folder.
        variables: The environment variables of the pods.

    Raises:
        OperationError: Airflow fails, or does not finish in time.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **variables,
            "PATH": os.environ["PATH"],
            "HOME": home,
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            **CLOSED,
            # As in the pods of a cluster. Without it DAGs use no separate pods, as on a laptop.
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        }
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, str(folder)],
                check=False,
                cwd=home,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise OperationError(
                f"the DAGs were not parsed within {TIMEOUT_SECONDS} s: check that no DAG file blocks while it is parsed"
            ) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OperationError(f"the DAGs cannot be parsed ({last}): check that `make test` passes")
    return dict(json.loads(done.stdout.splitlines()[-1]))
