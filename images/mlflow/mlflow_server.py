"""The MLflow server: experiment tracking and the model registry.

`mlflow server` has neither logins that fail closed nor a restriction on where artifacts are stored: access.py and
artifact_folder.py add them. Started directly, the server also needs one process instead of two. The settings are
MLflow's own variables and MLFLOW_<USER>_PASSWORD of each user; all are required.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from access import Gate, Right, User

# Longer than clients keep a connection that they do not use: if the server closed it as early as they do, a request
# could arrive just as it does.
KEEP_ALIVE_SECONDS = 75

USERS = {"admin": Right.DELETE, "tasks": Right.WRITE, "serving": Right.TRACE}


def setting(name: str) -> str:
    """Return an environment variable; exit if it is not set."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set: set it and start the MLflow server again")
    return value


def users() -> list[User]:
    """Return the users of the server."""
    return [User(name, setting(f"MLFLOW_{name.upper()}_PASSWORD"), right) for name, right in USERS.items()]


def main() -> None:
    """Serve until SIGTERM."""
    hosts = [host.strip() for host in setting("MLFLOW_SERVER_ALLOWED_HOSTS").split(",")]
    store, root = setting("MLFLOW_BACKEND_STORE_URI"), setting("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    if urlsplit(root).scheme != "s3" or not urlsplit(root).netloc:
        sys.exit(f"MLFLOW_DEFAULT_ARTIFACT_ROOT is {root}: it must be a folder of a bucket, s3://<bucket>/<folder>")
    logins = users()

    from mlflow import environment_variables, server
    from mlflow.server import constants, handlers
    from mlflow.server.fastapi_app import app

    from artifact_folder import ArtifactFolder, confine

    os.environ.pop(environment_variables.MLFLOW_DEPLOYMENTS_TARGET.name, None)
    # `mlflow server` sets these for the process that it starts.
    os.environ |= {constants.BACKEND_STORE_URI_ENV_VAR: store, constants.ARTIFACT_ROOT_ENV_VAR: root}
    confine(ArtifactFolder(root))
    handlers.initialize_backend_stores(store, store, root)
    uvicorn.run(
        Gate(app, logins, hosts),
        host=setting("MLFLOW_HOST"),
        port=int(setting("MLFLOW_PORT")),
        log_config=str(Path(server.__file__).with_name("uvicorn_log_config.yaml")),
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        # On startup, MLflow looks for containers of its assistant, which is not served here. It has no WebSockets.
        lifespan="off",
        ws="none",
    )


if __name__ == "__main__":
    main()
