"""Start, show and stop the whole of it."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil

from infra.errors import OperationError
from ops.airflow_api import AirflowApi, AirflowApiError
from ops.console import Echo
from ops.laptop import airflow, mlflow, object_migration, object_store, ports, postgres, processes, serving
from ops.laptop.home import Home
from ops.laptop.processes import Service

DAG = serving.MODEL
START_SECONDS = 120.0
FREE_GIBIBYTES = 2
# Who is stopped together, and before whom: first the clients, then what they keep their data in.
STOP_ORDER = (
    ("serving", serving.NEXT, "triggerer", "dag-processor", "scheduler", "api-server", "mlflow"),
    ("s3",),
    ("s3-volume", "s3-master"),
    ("postgres",),
)


@dataclass(frozen=True)
class Laptop:
    """The services of one home, on the ports that were chosen for them."""

    home: Home
    ports: dict[str, int]

    @classmethod
    def at(cls, home: Home) -> "Laptop":
        """Return the laptop of a home, with its ports chosen.

        What a dead service left behind is stopped first, so that it does not keep its port.
        """
        home.create()
        for name, record in processes.records(home).items():
            if record.leader() is None:
                processes.stop(home, name)
        return cls(home, ports.choose(home))

    @classmethod
    def known(cls, home: Home) -> "Laptop":
        """Return the laptop of a home on the ports that it has.

        Raises:
            OperationError: Nothing was ever started there.
        """
        return cls(home, ports.kept(home))

    @property
    def services(self) -> tuple[Service, ...]:
        """Return what runs before any model is trained, in the order in which it is started."""
        return (
            postgres.service(self.home, self.ports["postgres"]),
            *object_store.services(self.home, self.ports),
            mlflow.service(self.home, self.ports),
            *airflow.services(self.home, self.ports),
        )

    @property
    def s3(self) -> Any:
        """Return a client of the S3 server."""
        return object_store.client(self.home, self.ports["s3"])

    def start(self, echo: Echo, store_images: Callable[[], None]) -> None:
        """Start what is not running, in the order of who needs whom, and wait until all of it does its work.

        Raises:
            OperationError: A service did not start; its log is named.
        """
        self._check_free_disk()
        if object_migration.pending(self.home):
            stop(self.home)  # nothing may write while objects are moved
        postgres.prepare(self.home)
        object_store.prepare(self.home, self.ports)
        database, master, volume, objects, registry, *components = self.services
        for service in (database, master, volume):
            self._keep(service, echo)
        for service in (master, volume):  # without them the next one tries again after 7 s
            processes.wait_until_healthy(self.home, service, START_SECONDS)
        self._keep(objects, echo)
        for service in (database, objects):
            processes.wait_until_healthy(self.home, service, START_SECONDS)
        postgres.create_databases(self.home, self.ports["postgres"])
        object_store.create_buckets(self.home, self.ports["s3"])
        object_migration.move(self.home, self.s3, echo)
        with ThreadPoolExecutor() as pool:
            stored = pool.submit(store_images)
            self._keep(registry, echo)
            airflow.prepare_database(self.home, self.ports)
            for service in components:
                self._keep(service, echo)
            for service in (registry, *components):
                processes.wait_until_healthy(self.home, service, START_SECONDS)
            stored.result()
        version = serving.champion(self.home, self.ports)
        if version:
            self._serve(version, echo)

    def api(self) -> AirflowApi:
        """Return a client of Airflow's API, logged in as the administrator.

        Raises:
            OperationError: The login was refused.
        """
        try:
            return AirflowApi(airflow.url(self.ports), airflow.ADMIN, self.home.secrets.admin)
        except AirflowApiError as error:
            raise OperationError(f"{error}: run `make down`, then `make up`") from error

    def wait_for_dag(self, api: AirflowApi) -> None:
        """Wait until Airflow lists the DAG.

        Raises:
            OperationError: Its file cannot be imported, or it was not listed in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not api.has_dag(DAG):
            errors = api.import_errors()
            if errors:
                raise OperationError("a DAG file cannot be imported:\n" + "\n".join(errors))
            if time.monotonic() > deadline:
                log = processes.log_file(self.home, "dag-processor")
                raise OperationError(f"Airflow did not list the DAG {DAG} within {START_SECONDS:.0f} s: see {log}")
            time.sleep(0.5)

    def unpause_dag(self, api: AirflowApi, echo: Echo) -> None:
        """Unpause the DAG if it is paused: its runs would stay in the queue."""
        if api.is_paused(DAG):
            api.unpause(DAG)
            echo(f"{DAG} was paused: unpaused it, so that it runs")

    def status(self) -> list["Status"]:
        """Return the state of everything that was started or would be."""
        known = {service.name: service for service in self.services}
        served = serving.served_version(self.ports)
        if served or serving.NEXT in processes.records(self.home) or "serving" in processes.records(self.home):
            known["serving"] = serving.service(self.home, self.ports, served or "none")
        return [Status.of(self.home, service) for service in known.values()]

    def _keep(self, service: Service, echo: Echo) -> None:
        if processes.is_running(self.home, service):
            return
        where = f" on port {service.port}" if service.port else ""
        echo(f"starting {service.name}{where}")
        processes.start(self.home, service)

    def _serve(self, version: str, echo: Echo) -> None:
        """Serve the champion; one that cannot be served does not keep the next model from being trained."""
        try:
            serving.roll_out(self.home, self.ports, version)
        except OperationError as error:
            echo(f"warning: the champion, version {version}, is not served: {error}")

    def _check_free_disk(self) -> None:
        free = shutil.disk_usage(self.home.root).free / 2**30
        if free < FREE_GIBIBYTES:
            raise OperationError(
                f"{free:.1f} GiB are free on the disk of {self.home.root} and {FREE_GIBIBYTES} are needed: free "
                "some, or name a folder on another disk with LAPTOP_HOME"
            )


@dataclass(frozen=True)
class Status:
    """What `make status` shows of one service; memory in bytes, shared pages counted once (proportional set size)."""

    name: str
    pid: int | None
    port: int | None
    healthy: bool
    memory: int
    log: str

    @classmethod
    def of(cls, home: Home, service: Service) -> "Status":
        """Look at one service."""
        record = processes.records(home).get(service.name)
        leader = record.leader() if record else None
        return cls(
            name=service.name,
            pid=leader.pid if leader else None,
            port=service.port,
            healthy=leader is not None and service.healthy(),
            memory=sum(_memory(process) for process in record.members()) if record and leader else 0,
            log=str(processes.log_file(home, service.name)),
        )


def stop(home: Home) -> list[str]:
    """Stop everything that was started in this home; return the names of what was running."""
    stopped: list[str] = []
    for names in STOP_ORDER:
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda name: processes.stop(home, name), names)
            stopped += [name for name, running in zip(names, found, strict=True) if running]
    return stopped


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", 0) or full.uss)
