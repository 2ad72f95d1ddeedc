"""The people who log in to Airflow, and what their roles allow."""

from __future__ import annotations

import re
import secrets
from enum import StrEnum

from infra.errors import OperationError
from ops.airflow_api import AirflowApi
from ops.console import Echo

# A name is part of the address of a user in Airflow's API, and the e-mail address that Airflow wants.
NAME = re.compile(r"\w[\w.@+-]{0,63}")
PASSWORD_BYTES = 18
# The default of `[fab] cache_ttl`, for which Airflow remembers a user.
CACHE_SECONDS = 30


class Role(StrEnum):
    """Roles of Airflow: https://airflow.apache.org/docs/apache-airflow-providers-fab/stable/auth-manager/access-control.html

    A viewer reads. A user also runs DAGs, an op also changes connections, variables and pools, an admin also users.
    """

    VIEWER = "viewer"
    USER = "user"
    OP = "op"
    ADMIN = "admin"


def put(api: AirflowApi, name: str, role: Role | None, echo: Echo, *, new_password: bool = False) -> None:
    """Create a user, a viewer by default, or give an existing one another role or a new password.

    Raises:
        OperationError: The name is invalid, or that of the administrator with whom `api` is logged in.
    """
    check_name(api, name)
    roles = api.roles(name)
    if roles is None:
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        role = role or Role.VIEWER
        api.create_user(name, role.capitalize(), password)
        echo(f"created the {role} {name}\npassword   {password}")
        return
    if role:
        api.change_user(name, roles=[{"name": role.capitalize()}])
    if new_password:
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        api.change_user(name, password=password)
        echo(f"{name} has a new password, which ended all sessions\npassword   {password}")
    if role:
        echo(f"{name} has the role {role}, within {CACHE_SECONDS} s")
    elif not new_password:
        echo(f"{name} has the role {', '.join(roles).lower()}")


def remove(api: AirflowApi, name: str, echo: Echo) -> None:
    """Delete a user.

    Raises:
        OperationError: There is no such user, or it is the administrator with whom `api` is logged in.
    """
    check_name(api, name)
    if api.roles(name) is None:
        raise OperationError(f"there is no user {name}: correct NAME, or see the users in Airflow's UI under Security")
    api.delete_user(name)
    echo(f"deleted {name}, who is logged out within {CACHE_SECONDS} s")


def check_name(api: AirflowApi, name: str) -> None:
    """Check that a name can name a user that may be changed.

    Raises:
        OperationError: The name is invalid, or that of the administrator with whom `api` is logged in.
    """
    if not NAME.fullmatch(name):
        raise OperationError(
            f"{name!r} cannot name a user: use up to 64 letters, digits and characters of .@+-_, a letter first"
        )
    if name == api.user:
        raise OperationError(f"{name} is the administrator that the other commands log in as: choose another NAME")
