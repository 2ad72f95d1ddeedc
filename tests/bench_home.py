"""The services of a laptop in a temporary home, for benchmarks of the DAGs' steps in this process."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from infra.documents import REPOSITORY
from ops.laptop import airflow, object_store, postgres, processes
from ops.laptop.home import Home
from ops.process_environment import SYSTEM, enter
from tests.laptop import s3_server
from tests.servers import free_port


@contextmanager
def running() -> Iterator[None]:
    """Run PostgreSQL and the object store, for the steps of the DAGs, which can be imported."""
    enter(SYSTEM)
    sys.path.insert(0, str(REPOSITORY / "dags"))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        home = Home(Path(folder, "home"))
        home.create()
        postgres.prepare(home)
        database = postgres.service(home, free_port())
        processes.start(home, database)
        server = s3_server.start(home)
        try:
            processes.wait_until_healthy(home, database, 60)
            postgres.create_databases(home, database.port or 0)
            os.environ |= {
                **object_store.client_environment(home, server.ports["s3"]),
                "DATA_BUCKET": object_store.BUCKETS["data"],
                "ARTIFACTS_BUCKET": object_store.BUCKETS["artifacts"],
                "AIRFLOW_HOME": str(home.airflow),
                "SODA_PYTHON": str(airflow.SODA_PYTHON),
                "AIRFLOW_CONN_FEATURES": (
                    f"postgresql://features:{home.secrets.features_database}@127.0.0.1:{database.port}/features"
                ),
            }
            yield
        finally:
            s3_server.stop(home)
            processes.stop(home, "postgres")


def print_machine() -> None:
    """Print the size of this machine, and how busy it is."""
    memory = psutil.virtual_memory().total / 2**30
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, load {os.getloadavg()[0]:.1f}", flush=True)
