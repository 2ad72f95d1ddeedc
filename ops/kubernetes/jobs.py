"""Run a Job of Kubernetes and wait for its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from infra.errors import OperationError
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.watch import Watcher

Object = Mapping[str, Any]

LOOK_SECONDS = 1
DELETE_SECONDS = 60
# Of the pods of a Job: https://kubernetes.io/docs/reference/labels-annotations-taints/#batchkubernetesio-job-name
JOB_LABEL = "batch.kubernetes.io/job-name"


def start(cluster: Cluster, namespace: str, manifest: Mapping[str, Any]) -> None:
    """Make a Job, in place of one of its name that has ended.

    Raises:
        OperationError: One of its name has not ended, or the cluster refuses it.
    """
    name = manifest["metadata"]["name"]
    found = cluster.job(namespace, name)
    if found and (has_ended(found) or "deletionTimestamp" in found["metadata"]):
        delete(cluster, namespace, name)
        found = None
    if found or not cluster.create_job(namespace, manifest):
        raise OperationError(
            f"another {name} runs in {namespace}: wait until it has ended, or end it with "
            f"`kubectl --namespace {namespace} delete job {name}`"
        )


def ended(cluster: Cluster, namespace: str, name: str, watch: Watcher, tell: Echo) -> Object:
    """Wait until the pod of a Job has ended, well or not, and return it; `tell` hears of each container that starts.

    Raises:
        OperationError: The pod cannot start, took longer than the Job allows, or was deleted.
    """
    told: list[str] = []
    while True:
        pods = cluster.namespace(namespace).pods
        job = cluster.job(namespace, name)
        pod = next((one for one in pods if one["metadata"].get("labels", {}).get(JOB_LABEL) == name), None)
        for container in started(pod) if pod else ():
            if container not in told:
                told.append(container)
                tell(container)
        if job is None or is_overdue(job):
            raise OperationError(why_ended(job, name))
        if pod and (failed(pod) or pod["status"].get("phase") == "Succeeded"):
            return pod
        if has_ended(job):
            raise OperationError(why_ended(job, name))
        if reason := watch():
            raise OperationError(reason)
        time.sleep(LOOK_SECONDS)


def delete(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a Job, if it is there, and wait until its pods have gone, too.

    Raises:
        OperationError: They do not go, or the cluster cannot be asked.
    """
    cluster.delete_job(namespace, name)
    deadline = time.monotonic() + DELETE_SECONDS
    while cluster.job(namespace, name):
        if time.monotonic() > deadline:
            raise OperationError(f"the Job {name} in {namespace} is deleted and does not go: see its pods")
        time.sleep(LOOK_SECONDS)


def has_ended(job: Object) -> bool:
    """Say whether a Job starts no more pods."""
    return any(condition["type"] in ("Complete", "Failed") for condition in _conditions(job))


def is_overdue(job: Object) -> bool:
    """Say whether a Job was stopped because it took too long."""
    return any(condition.get("reason") == "DeadlineExceeded" for condition in _conditions(job))


def why_ended(job: Object | None, name: str) -> str:
    """Return why a Job has ended without a pod that has."""
    if job and is_overdue(job):
        return f"the Job {name} took longer than the {job['spec']['activeDeadlineSeconds']} s that it may take"
    return f"the Job {name} or its pod was deleted, or its node went away: run the same command again"


def started(pod: Object) -> Iterator[str]:
    """Yield the names of a pod's containers that have started, in their order."""
    for container in containers(pod):
        if not container["state"].get("waiting"):
            yield str(container["name"])


def failed(pod: Object) -> Object | None:
    """Return the container that ended in an error; None where none did."""
    for container in containers(pod):
        if container["state"].get("terminated", {}).get("exitCode", 0) != 0:
            return container
    return None


def containers(pod: Object) -> list[Object]:
    """Return what is known of a pod's containers, those first that run first."""
    status = pod["status"]
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [container for container in found if container.get("state")]


def _conditions(job: Object) -> list[Object]:
    return [one for one in job.get("status", {}).get("conditions") or () if one.get("status") == "True"]
