"""Port-forward to a stack's Airflow and use its API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from infra.errors import OperationError
from ops.airflow.installation import Installation
from ops.airflow_api import AirflowApi, AirflowApiError
from ops.kubernetes.kubectl import forwarded
from ops.loopback import LOOPBACK

ADMIN_SECRET = "airflow-admin"  # noqa: S105 - a name, not a password
API_SERVER = "component=api-server"
PORT = 8080


@dataclass(frozen=True)
class Login:
    """The address of Airflow or MLflow and the login of its administrator."""

    url: str
    user: str
    password: str


@contextmanager
def port_forwarded(installation: Installation, port: int = 0) -> Iterator[Login]:
    """Forward a port of this machine to Airflow's API and UI; use a free port if that one is taken.

    Raises:
        OperationError: Airflow is not deployed or does not respond.
    """
    cluster, namespace, stack = installation.cluster, installation.namespace, installation.stack
    services = cluster.names("Service", namespace, API_SERVER)
    secret = cluster.get("Secret", ADMIN_SECRET, namespace)
    if not services or secret is None:
        raise OperationError(
            f"Airflow is not deployed in {namespace} of {cluster.context}: run `make deploy STACK={stack}`"
        )
    user, password = (base64.b64decode(secret["data"][key]).decode() for key in ("username", "password"))
    with forwarded(cluster, namespace, f"service/{services[0]}", PORT, port) as local:
        yield Login(f"http://{LOOPBACK}:{local}", user, password)


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
