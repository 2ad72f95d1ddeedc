"""Measure the DAG flight_features: `make bench-features`. Prints results without asserts.

The steps run one after the other in this process, as one run of the DAG calls them, against the laptop's PostgreSQL and
object store in a temporary home. Airflow's own time for each task is not included.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from ops.laptop import airflow, object_store, postgres, processes
from ops.laptop.home import Home
from ops.process_environment import SYSTEM, enter
from tests.laptop import s3_server
from tests.servers import free_port

REPOSITORY = Path(__file__).resolve().parent.parent
FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
ONE_DAY = date(2013, 6, 15)


def main() -> None:
    """Print the seconds of runs of the whole year, of four months, and of one day."""
    enter(SYSTEM)
    with tempfile.TemporaryDirectory(prefix="bench-features-") as folder:
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
            measure()
        finally:
            s3_server.stop(home)
            processes.stop(home, "postgres")


def measure() -> None:
    """Run the steps for the year, for a third of it and for a day, and print their seconds."""
    sys.path.insert(0, str(REPOSITORY / "dags"))
    logging.disable(logging.WARNING)
    from flight_features import raw_files, steps
    from ml_common import partitions

    memory = psutil.virtual_memory().total / 2**30
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, load {os.getloadavg()[0]:.1f}", flush=True)

    def run(title: str, days: list[date]) -> None:
        seconds: dict[str, float] = {}

        def step(name: str, function: Callable[..., Any], *arguments: object) -> Any:
            began = time.monotonic()
            result = function(*arguments)
            seconds[name] = time.monotonic() - began
            return result

        staging = step("create_staging", steps.create_staging, title)
        for table in raw_files.TABLES:
            step(f"land {table}", steps.land, table, days)
            step(f"stage {table}", steps.stage, table, staging, days)
        for check_or_build in (steps.check_raw, steps.build, steps.check_features):
            step(check_or_build.__name__, check_or_build, staging, days)
        published = step("publish", steps.publish, staging, days)
        step("verify", steps.verify, published)
        step("drop_staging", steps.drop_staging, staging)
        print(
            f"\n{title}: {published['partitions']} partitions, {published['rows']} rows, {sum(seconds.values()):.1f} s"
        )
        print("  " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
        print(f"  checksum {published['checksum']}", flush=True)

    year = partitions.between(FIRST, LAST)
    run("the year, with copying the raw files", year)
    run("the year again", year)
    run("January to April", partitions.between(FIRST, date(2013, 4, 30)))
    run("one day", [ONE_DAY])
    run("one day again", [ONE_DAY])


if __name__ == "__main__":
    main()
