"""The MLflow server: experiment tracking and the model registry.

`mlflow server` has neither logins that fail closed nor a limit to where artifacts are: access.py and artifact_folder.py
add them. Started directly, the server also takes one process instead of two. Settings are MLflow's own variables, and
MLFLOW_<USER>_PASSWORD of each user; every one of them must be set.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from access import Gate, Right, User

USERS = {"admin": Right.DELETE, "tasks": Right.WRITE, "serving": Right.READ}


def setting(name: str) -> str:
    """Return a variable of the environment; without it the server does not start."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set: the MLflow server does not start without it")
    return value


def users() -> list[User]:
    """Return who may log in."""
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
    # What `mlflow server` passes on to the process that it starts.
    os.environ |= {constants.BACKEND_STORE_URI_ENV_VAR: store, constants.ARTIFACT_ROOT_ENV_VAR: root}
    confine(ArtifactFolder(root))
    handlers.initialize_backend_stores(store, store, root)
    uvicorn.run(
        Gate(app, logins, hosts),
        host=setting("MLFLOW_HOST"),
        port=int(setting("MLFLOW_PORT")),
        log_config=str(Path(server.__file__).with_name("uvicorn_log_config.yaml")),
        access_log=False,
        # At its start MLflow looks for containers of its assistant, which is not served; it has no WebSockets.
        lifespan="off",
        ws="none",
    )


if __name__ == "__main__":
    main()
