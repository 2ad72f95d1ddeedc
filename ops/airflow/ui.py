"""Port-forward to a stack's Airflow and MLflow, and use Airflow's API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from infra.airflow_names import ADMIN_SECRET, API_SERVER_PORT, COMPONENT_LABEL, MLFLOW, MLFLOW_ADMIN_SECRET, MLFLOW_PORT
from infra.errors import OperationError
from ops.airflow_api import AirflowApi, AirflowApiError
from ops.kubernetes.diagnosis import Object
from ops.kubernetes.kubectl import forwarded
from ops.loopback import LOOPBACK
from ops.stacks.stack import Stack

API_SERVER = f"{COMPONENT_LABEL}=api-server"


@dataclass(frozen=True)
class Login:
    """The address of Airflow or MLflow and the login of its administrator."""

    url: str
    user: str
    password: str


@contextmanager
def airflow_forwarded(stack: Stack, port: int = 0) -> Iterator[Login]:
    """Forward a port of this machine to Airflow's API and UI; use a free port if that one is taken.

    Raises:
        OperationError: Airflow is not deployed or does not respond.
    """
    cluster, namespace = stack.cluster, stack.namespace
    services = cluster.names("Service", namespace, API_SERVER)
    secret = cluster.get("Secret", ADMIN_SECRET, namespace)
    if not services or secret is None:
        raise OperationError(
            f"Airflow is not deployed in {namespace} of {cluster.context}: run `make deploy STACK={stack.name}`"
        )
    with forwarded(cluster, namespace, f"service/{services[0]}", API_SERVER_PORT, port) as local:
        yield _login(local, secret)


@contextmanager
def mlflow_forwarded(stack: Stack, port: int = 0) -> Iterator[Login]:
    """Forward a port of this machine to MLflow; use a free port if that one is taken.

    Raises:
        OperationError: MLflow is not deployed, has no login, or does not respond.
    """
    cluster, namespace = stack.cluster, stack.namespace
    secret = cluster.get("Secret", MLFLOW_ADMIN_SECRET, namespace)
    if secret is None:
        raise OperationError(f"MLflow has no administrator login yet: run `make deploy STACK={stack.name}`")
    with forwarded(cluster, namespace, f"service/{MLFLOW}", MLFLOW_PORT, port) as local:
        yield _login(local, secret)


def _login(port: int, secret: Object) -> Login:
    user, password = (base64.b64decode(secret["data"][key]).decode() for key in ("username", "password"))
    return Login(f"http://{LOOPBACK}:{port}", user, password)


@contextmanager
def client(login: Login) -> Iterator[AirflowApi]:
    """Log in to Airflow's API and yield a client.

    Raises:
        OperationError: Airflow refused the login, did not respond, or responded with an error.
    """
    try:
        yield AirflowApi(login.url, login.user, login.password)
    except AirflowApiError as error:
        raise OperationError(str(error)) from error
    except httpx.HTTPError as error:
        raise OperationError(f"Airflow's API does not respond ({error}): check its pods with `make status`") from error


def import_errors(api: AirflowApi) -> list[str]:
    """Return the import errors of DAG files: each file and the last line of its traceback."""
    traces = [error.strip().splitlines() for error in api.import_errors()]
    return [f"{lines[0]} {lines[-1]}" for lines in traces]
