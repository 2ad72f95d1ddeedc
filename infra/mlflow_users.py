"""The users of the MLflow server and the variables that carry their passwords.

`images/mlflow/mlflow_server.py` says what each may do: `admin` everything, `tasks` all but delete, `serving` only read.
"""

from collections.abc import Mapping
from typing import TypeVar

ADMIN, TASKS, SERVING = USERS = ("admin", "tasks", "serving")

USERNAME_VARIABLE, PASSWORD_VARIABLE = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"

Password = TypeVar("Password")


def server_environment(passwords: Mapping[str, Password]) -> dict[str, Password]:
    """Return the server's variables, given the passwords by user."""
    return {f"MLFLOW_{user.upper()}_PASSWORD": passwords[user] for user in USERS}


def client_environment(user: str, password: Password) -> dict[str, str | Password]:
    """Return the variables with which MLflow's clients log in."""
    return {USERNAME_VARIABLE: user, PASSWORD_VARIABLE: password}
