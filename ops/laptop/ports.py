"""The services' loopback ports: chosen once, saved, and changed only when another program uses one."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.documents import read_json
from infra.errors import OperationError
from ops.laptop import processes
from ops.laptop.home import Home, write_atomically

Port = Annotated[int, Field(ge=1, le=65535)]

# By service name; further ports of a service have a suffix after a dot.
PREFERRED = {
    "postgres": 5442,
    "s3": 4566,
    "s3.grpc": 4567,
    "s3.filer": 4568,
    "s3-master": 4569,
    "s3-master.grpc": 4570,
    "s3-volume": 4571,
    "s3-volume.grpc": 4572,
    "mlflow": 5000,
    "api-server": 8080,
    "scheduler": 8974,
    "serving": 8000,
}
ZENML = {"zenml": 8237}  # only in a home with a ZenML server
# What DAGs serve, other than `make up`'s.
SERVED = 8001

# The offset of a second port that a server opens on its own.
TWINS = {"s3.filer": 10000}


def choose(home: Home) -> dict[str, int]:
    """Choose a port for each service: the one it listens on, else its previous one, else the next free one."""
    before = _read(home) if _path(home).exists() else {}
    running = {name for name, record in processes.records(home).items() if record.leader() is not None}
    chosen: dict[str, int] = {}
    for name, preferred in {**_preferred(home), **_served(before)}.items():
        port = before.get(name, preferred)
        if name.partition(".")[0] not in running or name not in before:
            taken = set(chosen.values()) | set(before.values()) - {before.get(name, 0)}
            port = processes.free_port(port, taken, TWINS.get(name, 0))
        chosen[name] = port
    if chosen != before:
        write_atomically(_path(home), json.dumps(chosen, indent=2))
    return chosen


def add(home: Home, name: str) -> dict[str, int]:
    """Return the saved ports with one for what a DAG serves, which is chosen if it has none.

    Raises:
        OperationError: No ports were saved, or some are missing.
    """
    found = load(home)
    if name not in found:
        found[name] = processes.free_port(SERVED, set(found.values()))
        write_atomically(_path(home), json.dumps(found, indent=2))
    return found


def load(home: Home) -> dict[str, int]:
    """Return the saved ports.

    Raises:
        OperationError: No ports were saved, or some are missing.
    """
    if not _path(home).exists():
        raise OperationError(f"nothing was ever started in {home.root}: run `make up`")
    found = _read(home)
    if missing := _preferred(home).keys() - found.keys():
        raise OperationError(f"{_path(home)} has no port for {', '.join(sorted(missing))}: run `make up`")
    return found


def _preferred(home: Home) -> dict[str, int]:
    return PREFERRED | (ZENML if home.zenml.exists() else {})


def _served(ports: dict[str, int]) -> dict[str, int]:
    return {name: SERVED for name in ports if name.startswith("serving-")}


def _read(home: Home) -> dict[str, int]:
    return read_json(_path(home), dict[str, Port])


def _path(home: Home) -> Path:
    return home.root / "ports.json"
