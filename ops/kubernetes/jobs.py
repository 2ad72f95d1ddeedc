"""Run a Kubernetes Job and wait until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from infra.errors import OperationError
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.watch import Watcher

Object = Mapping[str, Any]

POLL_INTERVAL_SECONDS = 1
DELETE_SECONDS = 60
# The label that Kubernetes sets on a Job's pods: https://kubernetes.io/docs/reference/labels-annotations-taints/#batchkubernetesio-job-name
JOB_LABEL = "batch.kubernetes.io/job-name"


def start(cluster: Cluster, namespace: str, manifest: Mapping[str, Any]) -> None:
    """Create a Job, and replace a finished Job with the same name.

    Raises:
        OperationError: A Job with this name is still running, or the cluster refused the Job.
    """
    name = manifest["metadata"]["name"]
    found = cluster.job(namespace, name)
    if found and (has_ended(found) or "deletionTimestamp" in found["metadata"]):
        delete(cluster, namespace, name)
        found = None
    if found or not cluster.create_job(namespace, manifest):
        raise OperationError(
            f"the Job {name} is already running in {namespace}: wait until it ends, or delete it with "
            f"`kubectl --namespace {namespace} delete job {name}`"
        )


def ended(cluster: Cluster, namespace: str, name: str, watch: Watcher, report: Echo) -> Object:
    """Wait until the pod of a Job has succeeded or failed, and return it.

    Args:
        cluster: The cluster.
        namespace: The namespace of the Job.
        name: The name of the Job.
        watch: Returns why waiting is pointless, or None.
        report: Receives the name of each container that starts.

    Raises:
        OperationError: The pod cannot start, exceeded the Job's deadline, or was deleted.
    """
    reported: list[str] = []
    while True:
        pods = cluster.namespace(namespace).pods
        job = cluster.job(namespace, name)
        pod = next((one for one in pods if one["metadata"].get("labels", {}).get(JOB_LABEL) == name), None)
        for container in started(pod) if pod else ():
            if container not in reported:
                reported.append(container)
                report(container)
        if job is None or is_overdue(job):
            raise OperationError(why_ended(job, name))
        if pod and (failed(pod) or pod["status"].get("phase") == "Succeeded"):
            return pod
        if has_ended(job):
            raise OperationError(why_ended(job, name))
        if reason := watch():
            raise OperationError(reason)
        time.sleep(POLL_INTERVAL_SECONDS)


def delete(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a Job if it exists, and wait until its pods are gone.

    Raises:
        OperationError: The Job is not gone in time, or the request to the cluster failed.
    """
    cluster.delete_job(namespace, name)
    deadline = time.monotonic() + DELETE_SECONDS
    while cluster.job(namespace, name):
        if time.monotonic() > deadline:
            raise OperationError(
                f"the Job {name} in {namespace} is still there {DELETE_SECONDS} s after it was deleted: check its pods "
                "with `kubectl describe`"
            )
        time.sleep(POLL_INTERVAL_SECONDS)


def has_ended(job: Object) -> bool:
    """Return whether a Job has completed or failed."""
    return any(condition["type"] in ("Complete", "Failed") for condition in _conditions(job))


def is_overdue(job: Object) -> bool:
    """Return whether a Job was stopped because it exceeded its deadline."""
    return any(condition.get("reason") == "DeadlineExceeded" for condition in _conditions(job))


def why_ended(job: Object | None, name: str) -> str:
    """Return why a Job ended although none of its pods did."""
    if job and is_overdue(job):
        return (
            f"the Job {name} exceeded its deadline of {job['spec']['activeDeadlineSeconds']} s: check its pod with "
            "`kubectl describe`, then rerun this command"
        )
    return f"the Job {name} or its pod was deleted, or its node was removed: rerun this command"


def started(pod: Object) -> Iterator[str]:
    """Yield the names of a pod's containers that have started, in order."""
    for container in containers(pod):
        if not container["state"].get("waiting"):
            yield str(container["name"])


def failed(pod: Object) -> Object | None:
    """Return the container that ended with an error; None if none did."""
    for container in containers(pod):
        if container["state"].get("terminated", {}).get("exitCode", 0) != 0:
            return container
    return None


def containers(pod: Object) -> list[Object]:
    """Return the statuses of a pod's containers, in the order in which they run."""
    status = pod["status"]
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [container for container in found if container.get("state")]


def _conditions(job: Object) -> list[Object]:
    return [one for one in job.get("status", {}).get("conditions") or () if one.get("status") == "True"]
