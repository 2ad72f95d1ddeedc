"""Port-forward to a stack's MLflow."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import OperationError
from infra.mlflow_server import ADMIN_SECRET, NAME, PORT
from ops.airflow.airflow_ui import Login
from ops.kubernetes.kubectl import forwarded
from ops.loopback import LOOPBACK
from ops.stacks.stack import Stack


@contextmanager
def port_forwarded(stack: Stack, port: int = 0) -> Iterator[Login]:
    """Forward a port of this machine to MLflow; use a free port if that one is taken.

    Raises:
        OperationError: MLflow is not deployed, has no login, or does not respond.
    """
    cluster, namespace = stack.cluster, stack.namespace
    secret = cluster.secret(namespace, ADMIN_SECRET)
    if secret is None:
        raise OperationError(f"MLflow has no administrator login yet: run `make deploy STACK={stack.name}`")
    user, password = (base64.b64decode(secret[key]).decode() for key in ("username", "password"))
    with forwarded(cluster, namespace, f"service/{NAME}", PORT, port) as local:
        yield Login(f"http://{LOOPBACK}:{local}", user, password)
