"""Airflow's own answers, through its API."""

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

ADMIN_SECRET = "airflow-admin"  # noqa: S105 - its name
API_SERVER = "component=api-server"
PORT = 8080


@dataclass(frozen=True)
class Login:
    """Where Airflow answers, and who may do everything there."""

    url: str
    user: str
    password: str


@contextmanager
def reached(installation: Installation, port: int = 0) -> Iterator[Login]:
    """Open a way to Airflow's API and user interface, at a port of this machine; another one where that is taken.

    Raises:
        OperationError: Airflow is not there, or does not answer.
    """
    cluster, namespace, stack = installation.cluster, installation.namespace, installation.stack
    services = cluster.services(namespace, API_SERVER)
    secret = cluster.secret(namespace, ADMIN_SECRET)
    if not services or secret is None:
        raise OperationError(
            f"there is no Airflow in {namespace} of {cluster.context}: run `make deploy STACK={stack}`"
        )
    user, password = (base64.b64decode(secret[key]).decode() for key in ("username", "password"))
    with forwarded(cluster, namespace, f"service/{services[0]}", PORT, port) as local:
        yield Login(f"http://{LOOPBACK}:{local}", user, password)


@contextmanager
def client(login: Login) -> Iterator[AirflowApi]:
    """Log in.

    Raises:
        OperationError: Airflow refuses the login, does not answer, or not with what was asked.
    """
    try:
        yield AirflowApi(login.url, login.user, login.password)
    except AirflowApiError as error:
        raise OperationError(str(error)) from error
    except httpx.HTTPError as error:
        raise OperationError(f"Airflow's API does not answer ({error}): see its pods with `make status`") from error


def import_errors(api: AirflowApi) -> list[str]:
    """Return what keeps DAG files from being read: file and last line of its trace."""
    traces = [error.strip().splitlines() for error in api.import_errors()]
    return [f"{lines[0]} {lines[-1]}" for lines in traces]
