"""Requests to the services that every task depends on, and to a port that tasks may not use. They write nothing."""

import logging
import os
import socket
import time
import urllib.request
from base64 import b64encode
from http import HTTPStatus
from urllib.error import HTTPError

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import artifacts_bucket

# A folder that every task may list.
FOLDER = "mlflow/"
MODELS = "/api/2.0/mlflow/registered-models/search?max_results=1"
TIMEOUT_SECONDS = 10
# The metrics of the StatsD exporter, to which tasks may only send: infra/airflow/network_policies.py.
DENIED_PORT = 9102
# On EKS, policies apply to a pod only some seconds after it started.
ENFORCEMENT_SECONDS = 30
POLL_INTERVAL_SECONDS = 1

log = logging.getLogger(__name__)


def reach_object_store() -> None:
    """List a folder of the object store with the task's identity.

    Raises:
        PermanentError: The object store denies access.
        ServiceUnavailableError: The object store does not answer.
    """
    next(artifacts_bucket().list(FOLDER), None)


def reach_model_registry() -> None:
    """Search MLflow's models with the task's login.

    Raises:
        PermanentError: MLFLOW_TRACKING_URI is not set, or MLflow refuses the login.
        ServiceUnavailableError: MLflow does not answer, or fails.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise PermanentError(
            "The environment variable MLFLOW_TRACKING_URI is not set: set it to the MLflow server's address."
        )
    login = ":".join(os.environ.get(name, "") for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"))
    request = urllib.request.Request(  # noqa: S310 - the address is the platform's
        f"{address}{MODELS}", headers={"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    )
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()  # noqa: S310
    except HTTPError as error:
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise PermanentError(
                f"MLflow at {address} refuses this task's login ({error.code}): check MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD."
            ) from error
        raise ServiceUnavailableError(
            f"MLflow at {address} answered {error.code} to a search for models: check its log."
        ) from error
    except OSError as error:
        raise ServiceUnavailableError(
            f"MLflow at {address} does not answer; check that it is running and reachable ({error})."
        ) from error


def be_confined(*, required: bool) -> None:
    """Connect to a port that network policies deny to tasks; a laptop has none.

    Args:
        required: Whether to fail if the connection is possible.

    Raises:
        PermanentError: The connection is possible.
        ServiceUnavailableError: The server's name is unknown.
    """
    host = os.environ.get("AIRFLOW__METRICS__STATSD_HOST")
    if not host:
        return
    deadline = time.monotonic() + ENFORCEMENT_SECONDS
    while _can_connect(host):
        if time.monotonic() > deadline:
            text = f"Nothing enforces network policies: this task can connect to {host}:{DENIED_PORT}."
            if required:
                raise PermanentError(text)
            log.warning(text)
            return
        time.sleep(POLL_INTERVAL_SECONDS)
    log.info("A network policy denies connections to %s:%d.", host, DENIED_PORT)


def _can_connect(host: str) -> bool:
    try:
        socket.create_connection((host, DENIED_PORT), timeout=TIMEOUT_SECONDS).close()
    except socket.gaierror as error:
        raise ServiceUnavailableError(f"{host} is unknown: check that the StatsD exporter is deployed.") from error
    except OSError:
        return False
    return True
