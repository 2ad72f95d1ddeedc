"""The command for users of Airflow."""

from typing import Annotated

import typer

from infra.errors import OperationError
from ops.airflow import users
from ops.cli.airflow import airflow_api
from ops.cli.laptop import HomeFolder
from ops.cli.options import StackOrThisMachine
from ops.console import echo
from ops.laptop.home import DEFAULT_HOME


def user(
    name: Annotated[str, typer.Argument(envvar="NAME", help="The name to log in with, such as anna.")],
    role: Annotated[
        users.Role | None, typer.Option(envvar="ROLE", help="What the user may do. A new user is a viewer.")
    ] = None,
    stack: StackOrThisMachine = None,
    new_password: Annotated[
        bool, typer.Option("--new-password", envvar="NEW_PASSWORD", help="Replace the password, and log out the user.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", envvar="REMOVE", help="Delete the user.")] = False,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Create, change or delete a user of Airflow.

    A viewer reads. A user also runs DAGs, an op also changes connections, variables and pools, an admin also users.
    """
    if remove and (role or new_password):
        raise OperationError("ROLE and NEW_PASSWORD have no effect with REMOVE=1: remove them")
    with airflow_api(stack, home) as api:
        if remove:
            users.remove(api, name, echo)
        else:
            users.put(api, name, role, echo, new_password=new_password)
