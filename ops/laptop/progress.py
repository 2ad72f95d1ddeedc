"""Show the progress of a run: a live table on a terminal, otherwise one line per change."""

import time
from collections.abc import Iterable
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.errors import OperationError
from ops.airflow_api import ACTIVE, AirflowApi, Task
from ops.console import Echo

POLL_INTERVAL_SECONDS = 1.0
LOG_LINES = 8  # of each failed task
TIMEOUT_SECONDS = 120.0  # for an Airflow that does not answer
ENDED = ("success", "failed", "skipped", "upstream_failed")
STYLES = {
    "success": "green",
    "failed": "bold red",
    "upstream_failed": "red",
    "running": "cyan",
    "up_for_retry": "yellow",
}


def unpause(api: AirflowApi, dag: str, echo: Echo) -> None:
    """Unpause the DAG if it is paused, so that its runs do not stay queued."""
    if api.is_paused(dag):
        api.unpause(dag)
        echo(f"unpaused {dag}, which was paused")


def start(api: AirflowApi, dag: str, conf: dict[str, Any], echo: Echo) -> str:
    """Start a run with these Params, or find the active run with the same Params; return its ID."""
    unpause(api, dag, echo)
    active = api.active_run(dag)
    if active and active["conf"] == conf:
        run = str(active["dag_run_id"])
        echo(f"following the run {run}, which is still active")
    else:
        run = str(api.trigger(dag, conf)["dag_run_id"])
        echo(f"started the run {run}")
    return run


def failures(api: AirflowApi, dag: str, run: str, tasks: Iterable[Task]) -> list[str]:
    """Return which tasks of a run failed, and the ends of their logs."""
    failed = [task for task in tasks if task.state == "failed"]
    paragraphs = [
        f"the run {run} failed in {', '.join(task.name for task in failed)}" if failed else f"the run {run} timed out"
    ]
    for task in failed:
        lines = [line for line in api.log(dag, run, task) if line.startswith("ERROR ") and "task_failed" not in line]
        paragraphs += [f"  {line}" for line in lines[-LOG_LINES:]]
    return paragraphs


def follow(
    api: AirflowApi, dag: str, run: str, console: Console, command: str, *, keep_table: bool = True
) -> tuple[str, list[Task]]:
    """Show the run's tasks until it has ended; return its state and its tasks.

    Requests are retried while the server does not answer. `command` is the command that continues the run; `keep_table`
    leaves the table on the terminal at the end.

    Raises:
        OperationError: Airflow stopped answering, or the DAG was paused, so the run cannot continue.
    """
    shown: dict[str, str] = {}  # state by task, in the order in which tasks were first listed
    began: dict[str, float] = {}
    answered = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True, screen=False) as live:
        while True:
            try:
                state, tasks, paused = api.run_state(dag, run), api.tasks(dag, run), api.is_paused(dag)
            except httpx.TransportError as error:
                if time.monotonic() - answered > TIMEOUT_SECONDS:
                    raise OperationError(
                        f"Airflow has not answered for {TIMEOUT_SECONDS:.0f} s: check `make status`, then rerun "
                        f"`{command}` to continue the run"
                    ) from error
                time.sleep(POLL_INTERVAL_SECONDS)
                continue
            answered = time.monotonic()
            changed = _changed(tasks, shown)
            tasks.sort(key=lambda task: list(shown).index(task.name))
            for task in changed:
                began.setdefault(f"{task.name} {task.tries} {task.state}", time.monotonic())
                if not console.is_terminal and task.state in (*ENDED, "running", "up_for_retry"):
                    console.print(_line(task))
            if console.is_terminal:
                live.update(_table(tasks, began), refresh=True)
            if state not in ACTIVE:
                break
            if paused:
                raise OperationError(
                    f"{dag} was paused in Airflow, so its run {run} cannot continue: run `{command}` to unpause and "
                    "continue it"
                )
            time.sleep(POLL_INTERVAL_SECONDS)
    if console.is_terminal and keep_table:
        console.print(_table(tasks, began))
    return state, tasks


def _changed(tasks: Iterable[Task], shown: dict[str, str]) -> list[Task]:
    changed = [task for task in tasks if shown.get(task.name) != task.state]
    shown.update({task.name: task.state for task in changed})
    return changed


def _line(task: Task) -> str:
    seconds = f" after {task.seconds:.1f} s" if task.state in ENDED and task.seconds is not None else ""
    tries = f" (try {task.tries})" if task.tries > 1 else ""
    return f"{task.name}: {task.state}{seconds}{tries}"


def _table(tasks: Iterable[Task], began: dict[str, float]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    table.add_column("state")
    table.add_column("seconds", justify="right")
    for task in tasks:
        since = began.get(f"{task.name} {task.tries} {task.state}")
        running = time.monotonic() - since if task.state == "running" and since else None
        seconds = task.seconds if task.state in ENDED else running
        style = STYLES.get(task.state, "dim")
        table.add_row(Text(task.name), Text(task.state, style), f"{seconds:.1f}" if seconds is not None else "")
    return table
