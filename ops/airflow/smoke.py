"""See that a stack works after a deployment: its health, the commit that runs, its DAG files, and the pod of a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from infra.errors import OperationError
from ops.airflow import airflow_ui, dags
from ops.airflow.dags import Revision
from ops.airflow.installation import Installation, installation_of
from ops.airflow.smoke_run import DAG, run
from ops.airflow_api import AirflowApi
from ops.console import Echo
from ops.kubernetes.watch import Watch, Watcher

# Within these a new pod has its first heartbeat, git-sync has followed the branch, and a changed file has been read.
SETTLE_SECONDS = 90
LOOK_SECONDS = 2


def smoke(stack: str, echo: Echo) -> None:
    """Say of each thing that it works, and in how many seconds that was seen.

    Raises:
        SettingsError: The stack has no settings, or wrong ones.
        ContextError: The cluster at hand is none that the settings name.
        OperationError: The first thing that does not work.
    """
    check(installation_of(stack, echo), echo)


def check(installation: Installation, echo: Echo) -> None:
    """Say of each thing in a stack's Airflow that it works.

    Raises:
        OperationError: The first thing that does not work.
    """
    watch = Watch(installation.cluster, installation.namespaces, installation.diagnosis)
    begun = time.monotonic()
    with airflow_ui.reached(installation) as login, airflow_ui.client(login) as api:
        echo(line("login", f"as {login.user}", time.monotonic() - begun))
        checks: Mapping[str, Callable[[], str]] = {
            "health": lambda: settled(lambda: healthy(api), watch),
            "commit": lambda: settled(lambda: newest(dags.revision(installation)), watch),
            "DAG files": lambda: settled(lambda: readable(api), watch),
            "task": lambda: run(api, installation, watch),
        }
        for name, look in checks.items():
            begun = time.monotonic()
            found = look()
            echo(line(name, found, time.monotonic() - begun))


def line(name: str, found: str, seconds: float) -> str:
    """Return what is said of a thing that works."""
    return f"{name:10} {found}, {seconds:.1f} s"


def settled(look: Callable[[], str], watch: Watcher, seconds: float = SETTLE_SECONDS) -> str:
    """Return what is found, as soon as it is well.

    Raises:
        OperationError: It is not in time, or something keeps it from ever being.
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
        time.sleep(LOOK_SECONDS)


def healthy(api: AirflowApi) -> str:
    """Return that all components are healthy.

    Raises:
        OperationError: Some are not.
    """
    if ill := api.unhealthy():
        raise OperationError(f"Airflow says that {', '.join(ill)} is not healthy: see its pods with `make status`")
    return "database and all components"


def newest(revision: Revision) -> str:
    """Return that the newest commit of the branch runs.

    Raises:
        OperationError: Another one does, or nobody knows.
    """
    if revision.running is None or revision.running != revision.head:
        raise OperationError(f"the commit that runs is {revision}")
    return str(revision)


def readable(api: AirflowApi) -> str:
    """Return that all DAG files can be read.

    Raises:
        OperationError: Some cannot, or the DAG of this test is not among them.
    """
    if errors := airflow_ui.import_errors(api):
        raise OperationError(f"a DAG file cannot be read: {errors[0]}")
    if not api.has_dag(DAG):
        raise OperationError(f"Airflow lists no DAG {DAG}: see that the branch has dags/{DAG}")
    return f"all readable, {DAG} among them"
