"""Start, inspect and stop the laptop's services."""

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

DAG = serving.DEMO.model
START_SECONDS = 300.0
FREE_GIBIBYTES = 2
# Groups of services in the order in which they stop: clients before the services that store their data.
STOP_ORDER = (
    ("triggerer", "dag-processor", "scheduler", "api-server", "mlflow"),
    ("s3",),
    ("s3-volume", "s3-master"),
    ("postgres",),
)


@dataclass(frozen=True)
class Laptop:
    """The services of one home, with their ports."""

    home: Home
    ports: dict[str, int]

    @classmethod
    def at(cls, home: Home) -> "Laptop":
        """Create a home if necessary and choose its ports.

        Child processes that a dead service left behind are stopped first, to free its port.
        """
        home.create()
        for name, record in processes.records(home).items():
            if record.leader() is None:
                processes.stop(home, name)
        return cls(home, ports.choose(home))

    @classmethod
    def known(cls, home: Home) -> "Laptop":
        """Return the laptop of an existing home, with its saved ports.

        Raises:
            OperationError: Nothing was ever started in this home.
        """
        return cls(home, ports.load(home))

    @property
    def services(self) -> tuple[Service, ...]:
        """The services that run before any model is trained, in start order."""
        return (
            postgres.service(self.home, self.ports["postgres"]),
            *object_store.services(self.home, self.ports),
            mlflow.service(self.home, self.ports),
            *airflow.services(self.home, self.ports),
        )

    @property
    def s3(self) -> Any:
        """A client of the S3 server."""
        return object_store.client(self.home, self.ports["s3"])

    def start(self, echo: Echo, store_images: Callable[[], None]) -> None:
        """Start the services that are not running, dependencies first, and wait until all are healthy.

        Args:
            echo: Prints a line of progress.
            store_images: Uploads the images; called as soon as the S3 server is ready.

        Raises:
            OperationError: A service did not start; the message names its log.
        """
        self._check_free_disk()
        if object_migration.pending(self.home):
            stop(self.home)  # nothing may write during the migration
        postgres.prepare(self.home)
        object_store.prepare(self.home, self.ports)
        database, master, volume, objects, registry, *components = self.services
        for service in (database, master, volume):
            self._ensure_running(service, echo)
        for service in (master, volume):  # the gateway retries only after 7 s if they are not ready
            processes.wait_until_healthy(self.home, service, START_SECONDS)
        self._ensure_running(objects, echo)
        for service in (database, objects):
            processes.wait_until_healthy(self.home, service, START_SECONDS)
        postgres.create_databases(self.home, self.ports["postgres"])
        object_store.create_buckets(self.home, self.ports["s3"])
        object_migration.move(self.home, self.s3, echo)
        with ThreadPoolExecutor() as pool:
            stored = pool.submit(store_images)
            self._ensure_running(registry, echo)
            airflow.prepare_database(self.home, self.ports)
            for service in components:
                self._ensure_running(service, echo)
            for service in (registry, *components):
                processes.wait_until_healthy(self.home, service, START_SECONDS)
            stored.result()
        version = serving.champion(self.home, self.ports)
        if version:
            self._serve(version, echo)

    def api(self) -> AirflowApi:
        """Log in to Airflow's API as the administrator.

        Raises:
            OperationError: Airflow rejected the login.
        """
        try:
            return AirflowApi(airflow.url(self.ports), airflow.ADMIN, self.home.secrets.admin)
        except AirflowApiError as error:
            raise OperationError(f"{error}: run `make down`, then `make up`") from error

    def wait_for_dag(self, api: AirflowApi, dag: str) -> None:
        """Wait until Airflow lists a DAG.

        Raises:
            OperationError: A DAG file cannot be imported, or the DAG was not listed in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not api.has_dag(dag):
            errors = api.import_errors()
            if errors:
                raise OperationError("a DAG file cannot be imported:\n" + "\n".join(errors))
            if time.monotonic() > deadline:
                log = processes.log_file(self.home, "dag-processor")
                raise OperationError(f"Airflow did not list the DAG {dag} within {START_SECONDS:.0f} s: see {log}")
            time.sleep(0.5)

    def status(self) -> list["Status"]:
        """Return the status of every service, including the model servers that were started."""
        known = {service.name: service for service in self.services}
        known |= {service.name: service for service in serving.known(self.home, self.ports)}
        return [Status.of(self.home, service) for service in known.values()]

    def _ensure_running(self, service: Service, echo: Echo) -> None:
        if processes.is_running(self.home, service):
            return
        where = f" on port {service.port}" if service.port else ""
        echo(f"starting {service.name}{where}")
        processes.start(self.home, service)

    def _serve(self, version: str, echo: Echo) -> None:
        """Serve the champion; a failure is only a warning, so that the next model can still be trained."""
        try:
            serving.roll_out(self.home, self.ports, version)
        except OperationError as error:
            echo(f"warning: the champion, version {version}, is not being served: {error}")

    def _check_free_disk(self) -> None:
        free = shutil.disk_usage(self.home.root).free / 2**30
        if free < FREE_GIBIBYTES:
            raise OperationError(
                f"the disk of {self.home.root} has {free:.1f} GiB free, and {FREE_GIBIBYTES} GiB are required: free "
                "some space, or set LAPTOP_HOME to a folder on another disk"
            )


@dataclass(frozen=True)
class Status:
    """One service in the output of `make status`.

    Attributes:
        name: The service's name.
        pid: Its process id, or None if it is not running.
        port: Its loopback port, or None.
        healthy: Whether it runs and answers.
        memory: Its memory in bytes (proportional set size, which counts shared pages once).
        log: The path of its log.
    """

    name: str
    pid: int | None
    port: int | None
    healthy: bool
    memory: int
    log: str

    @classmethod
    def of(cls, home: Home, service: Service) -> "Status":
        """Return the status of one service."""
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
    """Stop all services of this home; return the names of those that were running."""
    stopped: list[str] = []
    for names in (serving.names(home), *STOP_ORDER):
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
