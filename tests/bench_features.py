"""Measure the DAG flight_features: `make bench-features`. Prints results without asserts.

The steps run one after the other in this process, as one run of the DAG calls them, against the laptop's PostgreSQL and
object store in a temporary home. Airflow's own time for each task is not included.
"""

import logging
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from tests import bench_home

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
ONE_DAY = date(2013, 6, 15)


def main() -> None:
    """Print the seconds of runs of the whole year, of four months, and of one day."""
    with bench_home.running():
        logging.disable(logging.WARNING)
        measure()


def measure() -> None:
    """Run the steps for the year, for a third of it and for a day, and print their seconds."""
    from flight_features import raw_files, steps
    from ml_common import partitions

    bench_home.print_machine()

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
