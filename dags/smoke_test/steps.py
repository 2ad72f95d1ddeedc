"""What every task depends on, asked without leaving a trace."""

import os
import urllib.request
from urllib.error import HTTPError

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import artifacts_bucket

# A folder that every task may list.
FOLDER = "mlflow/"
TIMEOUT_SECONDS = 10


def reach_object_store() -> None:
    """Ask the object store, with the task's own identity.

    Raises:
        PermanentError: It refuses.
        ServiceUnavailableError: It does not answer.
    """
    next(artifacts_bucket().list(FOLDER), None)


def reach_model_registry() -> None:
    """Ask MLflow whether it is well.

    Raises:
        PermanentError: Nobody has said where it is.
        ServiceUnavailableError: It does not answer, or is not well.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise PermanentError("The environment variable MLFLOW_TRACKING_URI is not set: it names the MLflow server.")
    try:
        urllib.request.urlopen(f"{address}/health", timeout=TIMEOUT_SECONDS).close()  # noqa: S310 - of the platform
    except HTTPError as error:
        raise ServiceUnavailableError(f"MLflow at {address} answered {error.code} when asked how it is.") from error
    except OSError as error:
        raise ServiceUnavailableError(
            f"MLflow at {address} does not answer; check that it is running and reachable ({error})."
        ) from error
