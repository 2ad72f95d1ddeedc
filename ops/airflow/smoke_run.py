"""Run the DAG smoke_test and explain failures. Task pods are the first to use changed images."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

import httpx

from infra.errors import OperationError
from ops.airflow_api import ACTIVE, AirflowApi
from ops.kubernetes.diagnosis import Object
from ops.kubernetes.watch import Watcher
from ops.stacks.stack import Stack

# The DAG in dags/smoke_test/, and the prefix of its pods' names.
DAG = "smoke_test"
PODS = "smoke-test-"
# As `task_queued_timeout` in helm-values/airflow.yaml: enough to start a node for the pod.
RUN_SECONDS = 900
POLL_INTERVAL_SECONDS = 2
# A task's log is stored a moment after the task has ended.
LOG_SECONDS = 20
# The kubelet's message for an image that it cannot pull.
PULL_FAILED = re.compile(r'Failed to pull image "(?P<image>[^"]+)": (?P<why>.*)', re.DOTALL)


def run(api: AirflowApi, stack: Stack, watch: Watcher, seconds: float = RUN_SECONDS) -> str:
    """Run a task in its own pod.

    Raises:
        OperationError: The DAG is paused, or the task failed or did not run in time. An active run is stopped.
    """
    if api.is_paused(DAG):
        raise OperationError(f"the DAG {DAG} is paused: unpause it in Airflow's UI")
    before = {event["metadata"]["uid"] for event in _events(stack)}
    run_id = str(api.trigger(DAG, {"network_policies": stack.enforces_network_policies})["dag_run_id"])
    state = ACTIVE[0]
    try:
        deadline = time.monotonic() + seconds
        while (state := api.run_state(DAG, run_id)) in ACTIVE:
            if reason := watch():
                raise OperationError(f"the task of {DAG} does not run: {reason}")
            if time.monotonic() > deadline:
                raise OperationError(f"the task of {DAG} did not run within {seconds:.0f} s: see `make status`")
            time.sleep(POLL_INTERVAL_SECONDS)
    finally:
        if state in ACTIVE:
            with suppress(httpx.HTTPError):  # it would hide the first error
                api.give_up(DAG, run_id)
    if state != "success":
        why = missing_image(stack, before) or last_error(api, run_id)
        raise OperationError(f"the task of {DAG} failed: {why}")
    return f"{DAG} ran in its own pod"


def missing_image(stack: Stack, before: Collection[str]) -> str | None:
    """Explain an image pull failure of the run. The executor deletes such pods at once, but their events stay."""
    for event in _events(stack):
        pulled = PULL_FAILED.match(event.get("message") or "")
        if pulled and event["metadata"]["uid"] not in before:
            return stack.diagnosis.image_problem(pulled["image"], pulled["why"])
    return None


def last_error(api: AirflowApi, run_id: str, seconds: float = LOG_SECONDS) -> str:
    """Return the last error in the logs of a run's tasks."""
    deadline = time.monotonic() + seconds
    while True:
        lines = [line for task in api.tasks(DAG, run_id) for line in api.log(DAG, run_id, task)]
        errors = [line for line in lines if line.startswith("ERROR ") and "task_failed" not in line]
        if errors:
            return errors[-1].removeprefix("ERROR ")
        if time.monotonic() > deadline:
            return "its log contains no error: see the run with `make ui`"
        time.sleep(POLL_INTERVAL_SECONDS)


def _events(stack: Stack) -> Iterator[Object]:
    """Yield the events of the DAG's pods, including deleted ones."""
    for event in stack.cluster.namespace(stack.tasks_namespace).events:
        if str(event.get("involvedObject", {}).get("name")).startswith(PODS):
            yield event
