"""The demo of flights: months of 2013 pass until a model that is no longer right is replaced."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import PurePosixPath
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.errors import OperationError
from ops.airflow_api import AirflowApi
from ops.console import Echo
from ops.laptop import object_store, progress
from ops.laptop.laptop import Laptop

FEATURES, MODEL, SCORES, MONITOR = DAGS = ("flight_features", "flight_model", "flight_scores", "flight_monitor")
COMMAND = "make up DEMO=flights"
TRIGGER_SECONDS = 120
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Calendar:
    """What is replayed.

    Attributes:
        first_day: The first day of features.
        first_model: The first model is trained on the days before this one.
        months: The first days of the months with scores and monitoring.
    """

    first_day: date
    first_model: date
    months: Sequence[date]


# The first model is trained on January to March, and evaluated on the four weeks before its day.
YEAR = Calendar(date(2013, 1, 1), date(2013, 4, 29), [date(2013, month, 1) for month in range(4, 9)])


@dataclass(frozen=True)
class MonitoredMonth:
    """What the monitor measured of one version in a month, and whether it requested a new model."""

    month: str
    version: str
    flights: int
    auc: float
    skill: float
    requested: bool


class Replay:
    """The months, one after the other, as runs of the DAGs in Airflow."""

    def __init__(self, api: AirflowApi, console: Console, echo: Echo) -> None:
        """Unpause the DAGs, because some of their runs are started by other DAGs."""
        self._api = api
        self._console = console
        self._echo = echo
        self._published: date | None = None  # the last day with features
        for dag in DAGS:
            progress.unpause(api, dag, echo)

    def run(self, calendar: Calendar = YEAR) -> list[MonitoredMonth]:
        """Replay the months of a calendar; return what the monitor measured.

        Raises:
            OperationError: A run failed, or a run that another one starts did not start.
        """
        last_day = calendar.first_model - timedelta(days=1)
        self._echo(f"\n{calendar.first_day:%B} to {last_day:%B}: features, and a first model")
        self._features(calendar.first_day, last_day)
        self._run(MODEL, {"as_of": str(calendar.first_model)})
        measured = []
        for first in calendar.months:
            last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
            self._echo(f"\n{first:%B}: features, scores, monitoring")
            measured += self._month(first, last)
        return measured

    def _month(self, first: date, last: date) -> list[MonitoredMonth]:
        monitored, trained = self._api.newest_run(MONITOR), self._api.newest_run(MODEL)
        self._features(first, last)
        self._run(SCORES, {"first": str(first), "last": str(last)})
        run = self._started(MONITOR, monitored, "the scores of the month")
        request = self._api.result(MONITOR, run, "report")["request"]
        performance = self._api.result(MONITOR, run, "performance")
        if request:
            self._echo(request["reason"])
            self._started(MODEL, trained, "the monitor's request")
        return [
            MonitoredMonth(f"{first:%B}", version, found["outcomes"], found["auc"], found["skill"], request is not None)
            for version, found in performance.items()
        ]

    def _features(self, first: date, last: date) -> None:
        """Publish the days that this replay has not published yet."""
        if self._published:
            first = max(first, self._published + timedelta(days=1))
        if first <= last:
            self._run(FEATURES, {"first": str(first), "last": str(last)})
            self._published = last

    def _run(self, dag: str, conf: dict[str, Any]) -> None:
        self._follow(dag, progress.start(self._api, dag, conf, lambda _: None))

    def _started(self, dag: str, before: str | None, cause: str) -> str:
        """Follow the run of a DAG that something else starts; return its ID."""
        deadline = time.monotonic() + TRIGGER_SECONDS
        while (run := self._api.newest_run(dag)) is None or run == before:
            if time.monotonic() > deadline:
                raise OperationError(
                    f"{dag} was not started by {cause} within {TRIGGER_SECONDS} s: see `make logs S=scheduler`, then "
                    f"rerun `{COMMAND}`"
                )
            time.sleep(POLL_SECONDS)
        self._follow(dag, run)
        return run

    def _follow(self, dag: str, run: str) -> None:
        began = time.monotonic()
        state, tasks = progress.follow(self._api, dag, run, self._console, COMMAND, keep_table=False)
        if state != "success":
            raise OperationError("\n".join(progress.failures(self._api, dag, run, tasks)))
        self._echo(f"{dag} succeeded after {time.monotonic() - began:.0f} s")


def show(console: Console, machine: Laptop, months: list[MonitoredMonth]) -> None:
    """Print what the monitor measured, and save the pages of the DAGs in the home's folder `results`."""
    table = Table(box=None, pad_edge=False)
    table.add_column("month")
    for column in ("version", "flights", "AUC", "Brier skill"):
        table.add_column(column, justify="right")
    table.add_column("")
    for month in months:
        figures = (month.version, str(month.flights), f"{month.auc:.3f}", f"{month.skill:.3f}")
        table.add_row(month.month, *figures, "a new model was requested" if month.requested else "")
    console.print()
    console.print(table)
    console.print()
    for page in _pages(machine):
        console.print(f"page         {page}")


def _pages(machine: Laptop) -> list[str]:
    bucket, folder = object_store.BUCKETS["artifacts"], machine.home.results / "flights"
    folder.mkdir(exist_ok=True, parents=True)
    saved = []
    for dag in DAGS:
        listed = machine.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{dag}/")
        for key in (entry["Key"] for page in listed for entry in page.get("Contents", [])):
            if PurePosixPath(key).suffix == ".html":
                path = folder / key.replace("/", "-")
                path.write_bytes(machine.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
                saved.append(str(path))
    return saved
