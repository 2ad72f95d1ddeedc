"""The users of the MLflow server and the environment variables with their passwords.

`images/mlflow/mlflow_server.py` defines their rights: `admin` everything, `tasks` all but delete, `serving` reads and
sends traces.
"""

from collections.abc import Mapping
from typing import TypeVar

ADMIN, TASKS, SERVING = USERS = ("admin", "tasks", "serving")

USERNAME_VARIABLE, PASSWORD_VARIABLE = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"

Password = TypeVar("Password")


def server_environment(passwords: Mapping[str, Password]) -> dict[str, Password]:
    """Return the server's environment variables for the passwords by user."""
    return {f"MLFLOW_{user.upper()}_PASSWORD": passwords[user] for user in USERS}


def client_environment(user: str, password: Password) -> dict[str, str | Password]:
    """Return the environment variables with the credentials of MLflow clients."""
    return {USERNAME_VARIABLE: user, PASSWORD_VARIABLE: password}
