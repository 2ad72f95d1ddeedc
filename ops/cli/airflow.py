"""The API of an Airflow for commands: of a stack, or of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.airflow_api import AirflowApi
from ops.cli.laptop import opened
from ops.console import echo
from ops.laptop.laptop import Laptop


@contextmanager
def airflow_api(stack: str | None, home: Path) -> Iterator[AirflowApi]:
    """Log in as the administrator, to the Airflow of a stack or of this machine."""
    if stack:
        from ops.airflow.ui import airflow_forwarded, client
        from ops.stacks.resolve import resolve_running

        with airflow_forwarded(resolve_running(stack, echo)) as login, client(login) as api:
            yield api
    else:
        with opened(home) as here:
            yield Laptop.known(here).api()
