"""The command for Airflow connections."""

from pathlib import Path
from typing import Annotated

import typer

from infra.documents import DocumentError, read_text
from infra.errors import OperationError
from ops.airflow import connections
from ops.cli.airflow import airflow_api
from ops.cli.laptop import HomeFolder
from ops.cli.options import StackOrThisMachine
from ops.console import echo
from ops.laptop.home import DEFAULT_HOME
from ops.paths import user_path


def connection(
    name: Annotated[str, typer.Argument(envvar="NAME", help="The name that DAGs use, such as warehouse.")],
    file: Annotated[
        Path | None,
        typer.Option(envvar="FILE", parser=user_path, help="A YAML file with conn_type, host, port, login and so on."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(envvar="KEY", parser=user_path, help="A file with the password or the key of the API."),
    ] = None,
    stack: StackOrThisMachine = None,
    remove: Annotated[bool, typer.Option("--remove", envvar="REMOVE", help="Delete the connection.")] = False,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Create, change or delete a connection of Airflow.

    The file has no password, so it can be committed. Without KEY, a connection keeps the password that it has.
    """
    if remove:
        if file or key:
            raise OperationError("FILE and KEY have no effect with REMOVE=1: remove them")
        with airflow_api(stack, home) as api:
            connections.remove(api, name, echo)
        return
    if file is None:
        raise OperationError("FILE is not set: set it to a YAML file such as {conn_type: http, host: api.example.com}")
    wanted, password = connections.read(file), _password(key) if key else None
    with airflow_api(stack, home) as api:
        connections.put(api, name, wanted, password, echo)


def _password(file: Path) -> str:
    try:
        password = read_text(file).rstrip("\r\n")
    except DocumentError as error:
        raise OperationError(str(error)) from None
    if not password:
        raise OperationError(f"{file} is empty: KEY is a file with the password or the key of the API")
    return password
