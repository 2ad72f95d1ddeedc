"""Requests to the services that every task depends on. They write nothing."""

import os
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
