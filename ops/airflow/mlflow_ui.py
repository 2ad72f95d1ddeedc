"""Port-forward to a stack's MLflow."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import OperationError
from infra.mlflow_server import ADMIN_SECRET, NAME, PORT
from ops.airflow.airflow_ui import Login
from ops.airflow.installation import Installation
from ops.kubernetes.kubectl import forwarded
from ops.loopback import LOOPBACK


@contextmanager
def port_forwarded(installation: Installation, port: int = 0) -> Iterator[Login]:
    """Forward a port of this machine to MLflow; use a free port if that one is taken.

    Raises:
        OperationError: MLflow is not deployed, has no login, or does not respond.
    """
    cluster, namespace = installation.cluster, installation.namespace
    secret = cluster.get("Secret", ADMIN_SECRET, namespace)
    if secret is None:
        raise OperationError(f"MLflow has no administrator login yet: run `make deploy STACK={installation.stack}`")
    user, password = (base64.b64decode(secret["data"][key]).decode() for key in ("username", "password"))
    with forwarded(cluster, namespace, f"service/{NAME}", PORT, port) as local:
        yield Login(f"http://{LOOPBACK}:{local}", user, password)
