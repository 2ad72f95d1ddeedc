"""Check that a stack works after a deployment: health, running commit, DAG files, and a task in a pod."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from infra.errors import OperationError
from ops.airflow import dags, ui
from ops.airflow.dags import Revision
from ops.airflow.smoke_run import DAG, run
from ops.airflow_api import AirflowApi
from ops.console import Echo
from ops.kubernetes.watch import Watch, Watcher
from ops.stacks.stack import Stack

# Enough for the first heartbeat of a new pod, for git-sync to update, and for changed DAG files to be parsed.
SETTLE_SECONDS = 90
POLL_INTERVAL_SECONDS = 2


def smoke(stack: Stack, echo: Echo) -> None:
    """Run the checks on a stack, and print each with its duration.

    Raises:
        OperationError: A check failed.
    """
    watch = Watch(stack.cluster, stack.namespaces, stack.diagnosis)
    begun = time.monotonic()
    with ui.airflow_forwarded(stack) as login, ui.client(login) as api:
        echo(line("login", f"as {login.user}", time.monotonic() - begun))
        checks: Mapping[str, Callable[[], str]] = {
            "health": lambda: settled(lambda: healthy(api), watch),
            "commit": lambda: settled(lambda: newest(dags.revision(stack)), watch),
            "DAG files": lambda: settled(lambda: readable(api), watch),
            "task": lambda: run(api, stack, watch),
        }
        for name, look in checks.items():
            begun = time.monotonic()
            found = look()
            echo(line(name, found, time.monotonic() - begun))


def line(name: str, found: str, seconds: float) -> str:
    """Return the output line of a passed check."""
    return f"{name:10} {found}, {seconds:.1f} s"


def settled(look: Callable[[], str], watch: Watcher, seconds: float = SETTLE_SECONDS) -> str:
    """Repeat a check until it passes, and return its result.

    Raises:
        OperationError: The check did not pass in time, or the watcher found a problem.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look()
        except OperationError as error:
            if reason := watch():
                raise OperationError(f"{error} ({reason})") from error
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_INTERVAL_SECONDS)


def healthy(api: AirflowApi) -> str:
    """Check that all components are healthy.

    Raises:
        OperationError: A component is unhealthy.
    """
    if unhealthy := api.unhealthy():
        raise OperationError(f"Airflow reports as unhealthy: {', '.join(unhealthy)}; check the pods with `make status`")
    return "database and all components"


def newest(revision: Revision) -> str:
    """Check that the latest commit of the branch runs.

    Raises:
        OperationError: Another commit runs, or one of the two is unknown.
    """
    if revision.running is None or revision.running != revision.head:
        raise OperationError(f"the running commit is {revision}: check git-sync with `make status`")
    return str(revision)


def readable(api: AirflowApi) -> str:
    """Check that all DAG files can be imported.

    Raises:
        OperationError: A DAG file has an import error, or the smoke test's DAG is missing.
    """
    if errors := ui.import_errors(api):
        raise OperationError(f"a DAG file cannot be imported: {errors[0]}")
    if not api.has_dag(DAG):
        raise OperationError(f"Airflow has no DAG {DAG}: check that the branch contains dags/{DAG}")
    return f"no import errors, {DAG} included"
