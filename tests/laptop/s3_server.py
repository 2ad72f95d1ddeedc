"""Start and stop the S3 server of a home in tests."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psutil

from ops.laptop import object_store, ports, processes
from ops.laptop.home import Home


@dataclass(frozen=True)
class S3Server:
    """A running S3 server."""

    home: Home
    ports: dict[str, int]

    @cached_property
    def client(self) -> Any:
        return object_store.client(self.home, self.ports["s3"])

    def processes(self) -> list[psutil.Process]:
        return [process for record in processes.records(self.home).values() for process in record.members()]

    def listening(self) -> set[tuple[str, int]]:
        """Return the addresses that the server's processes listen on."""
        found = [c for process in self.processes() for c in process.net_connections("inet")]
        return {(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN}

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL."""
        members = self.processes()
        for member in members:
            member.kill()
        psutil.wait_procs(members)


def start(home: Home) -> S3Server:
    """Start the server as `make up` does."""
    server = S3Server(home, chosen_ports(home))
    object_store.prepare(home, server.ports)
    *behind, gateway = object_store.services(home, server.ports)
    for service in behind:
        processes.start(home, service)
    for service in behind:
        processes.wait_until_healthy(home, service, 180)
    processes.start(home, gateway)
    processes.wait_until_healthy(home, gateway, 180)
    object_store.create_buckets(home, server.ports["s3"])
    return server


def chosen_ports(home: Home) -> dict[str, int]:
    """Choose free ports for the server."""
    return {name: port for name, port in ports.choose(home).items() if name.startswith("s3")}


def stop(home: Home) -> None:
    """Stop the running processes of the server."""
    for name in ("s3", "s3-volume", "s3-master"):
        processes.stop(home, name)
