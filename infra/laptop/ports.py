"""The loopback ports of the services: chosen once, kept, and chosen anew only when something else has taken one."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.documents import read_json
from infra.errors import OperationError
from infra.laptop import processes
from infra.laptop.home import Home, write_atomically

Port = Annotated[int, Field(ge=1, le=65535)]

PREFERRED = {
    "postgres": 5442,
    "s3": 4566,
    "mlflow": 5000,
    "api-server": 8080,
    "scheduler": 8974,
    "serving": 8000,
}


def choose(home: Home) -> dict[str, int]:
    """Return a port for each service: the one it listens on, else the one it had, else the next that is free."""
    before = _read(home) if _path(home).exists() else {}
    running = {name for name, record in processes.records(home).items() if record.leader() is not None}
    chosen: dict[str, int] = {}
    for name, preferred in PREFERRED.items():
        port = before.get(name, preferred)
        if name not in running or name not in before:
            port = processes.free_port(port, taken=set(chosen.values()) | set(before.values()) - {before.get(name, 0)})
        chosen[name] = port
    if chosen != before:
        write_atomically(_path(home), json.dumps(chosen, indent=2))
    return chosen


def kept(home: Home) -> dict[str, int]:
    """Return the ports that were chosen before.

    Raises:
        OperationError: None were.
    """
    if not _path(home).exists():
        raise OperationError(f"nothing was ever started in {home.root}: run `make up`")
    found = _read(home)
    if missing := PREFERRED.keys() - found.keys():
        raise OperationError(f"{_path(home)} names no port of {', '.join(sorted(missing))}: run `make up`")
    return found


def _read(home: Home) -> dict[str, int]:
    return read_json(_path(home), dict[str, Port])


def _path(home: Home) -> Path:
    return home.root / "ports.json"
