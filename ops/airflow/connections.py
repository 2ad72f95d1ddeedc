"""Airflow connections: the servers that DAGs log in to, by their names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.documents import DocumentError, read_yaml
from infra.errors import OperationError
from ops.airflow_api import AirflowApi
from ops.console import Echo

# As Airflow's API demands.
NAME = re.compile(r"[\w.-]{1,200}")


class Connection(BaseModel):
    """A connection in a file, which has no password: the file can be committed.

    https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html
    """

    model_config = ConfigDict(extra="forbid")

    conn_type: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    login: str | None = None
    schema_: Annotated[str | None, Field(alias="schema")] = None
    description: str | None = None
    extra: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _has_no_password(cls, content: Any) -> Any:
        if isinstance(content, dict) and "password" in content:
            raise ValueError("a password does not belong here: put it into another file, and pass that as KEY")
        return content

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of Airflow's API."""
        return {**self.model_dump(by_alias=True), "extra": json.dumps(self.extra)}


def read(file: Path) -> Connection:
    """Read a connection.

    Raises:
        OperationError: The file cannot be read, or does not describe a connection.
    """
    try:
        return read_yaml(file, Connection)
    except DocumentError as error:
        raise OperationError(str(error)) from None


def put(api: AirflowApi, name: str, connection: Connection, password: str | None, echo: Echo) -> None:
    """Create a connection, or replace all fields of an existing one; its password stays if there is no new one.

    Raises:
        OperationError: The name is invalid, or Airflow rejected the connection.
    """
    check_name(name)
    fields = connection.fields | ({} if password is None else {"password": password})
    if api.has_connection(name):
        api.change_connection(name, fields)
        echo(f"changed the connection {name}{'' if password else ', which keeps its password'}")
    else:
        api.create_connection(name, fields)
        echo(f"created the connection {name}{'' if password else ' without a password'}")


def remove(api: AirflowApi, name: str, echo: Echo) -> None:
    """Delete a connection.

    Raises:
        OperationError: There is no such connection.
    """
    check_name(name)
    if not api.has_connection(name):
        raise OperationError(f"there is no connection {name}: correct NAME, or see Connections in Airflow's UI")
    api.delete_connection(name)
    echo(f"deleted the connection {name}")


def check_name(name: str) -> None:
    """Check that a name can name a connection.

    Raises:
        OperationError: It cannot.
    """
    if not NAME.fullmatch(name):
        raise OperationError(f"{name!r} cannot name a connection: use up to 200 letters, digits and characters of ._-")
