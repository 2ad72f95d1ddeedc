"""Run the DAG smoke_test, and say why it failed: a change of images shows first in the pods of tasks."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

import httpx

from infra.errors import OperationError
from ops.airflow.installation import Installation
from ops.airflow_api import ACTIVE, AirflowApi
from ops.kubernetes.diagnosis import Object
from ops.kubernetes.watch import Watcher

# In dags/smoke_test/, and how the names of its pods begin.
DAG = "smoke_test"
PODS = "smoke-test-"
# As `task_queued_timeout` in helm-values/airflow.yaml: a node that is started for the pod fits in.
RUN_SECONDS = 900
LOOK_SECONDS = 2
# A task's log is stored a moment after the task has ended.
LOG_SECONDS = 20
# What a kubelet writes of an image that it cannot have.
PULL_FAILED = re.compile(r'Failed to pull image "(?P<image>[^"]+)": (?P<why>.*)', re.DOTALL)


def run(api: AirflowApi, installation: Installation, watch: Watcher, seconds: float = RUN_SECONDS) -> str:
    """Return that a task has run in a pod of its own.

    Raises:
        OperationError: It did not, or not in time; the run is ended.
    """
    if api.is_paused(DAG):
        raise OperationError(f"the DAG {DAG} is paused: switch it on in the user interface")
    before = {event["metadata"]["uid"] for event in _events(installation)}
    run_id = str(api.trigger(DAG, {})["dag_run_id"])
    state = ACTIVE[0]
    try:
        deadline = time.monotonic() + seconds
        while (state := api.run_state(DAG, run_id)) in ACTIVE:
            if reason := watch():
                raise OperationError(f"the task of {DAG} does not run: {reason}")
            if time.monotonic() > deadline:
                raise OperationError(f"the task of {DAG} has not run within {seconds:.0f} s: see `make status`")
            time.sleep(LOOK_SECONDS)
    finally:
        if state in ACTIVE:
            with suppress(httpx.HTTPError):  # which would hide what was wrong before
                api.give_up(DAG, run_id)
    if state != "success":
        why = missing_image(installation, before) or last_error(api, run_id)
        raise OperationError(f"the task of {DAG} failed: {why}")
    return f"{DAG} ran in a pod of its own"


def missing_image(installation: Installation, before: Collection[str]) -> str | None:
    """Say which image a pod of the run could not have: the executor takes such a pod away at once, its events stay."""
    for event in _events(installation):
        pulled = PULL_FAILED.match(event.get("message") or "")
        if pulled and event["metadata"]["uid"] not in before:
            return installation.diagnosis.image_problem(pulled["image"], pulled["why"])
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
            return "its log has no error in it: see `make ui`"
        time.sleep(LOOK_SECONDS)


def _events(installation: Installation) -> Iterator[Object]:
    """Yield what Kubernetes tells of the DAG's pods, those that have gone, too."""
    for event in installation.cluster.namespace(installation.namespace).events:
        if str(event.get("involvedObject", {}).get("name")).startswith(PODS):
            yield event
