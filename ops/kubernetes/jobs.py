"""Run a Kubernetes Job and wait until it ends."""

from __future__ import annotations

import time
from contextlib import suppress

from infra.errors import OperationError
from ops.console import Echo
from ops.kubernetes.cluster import Cluster, ConflictError, NotFoundError
from ops.kubernetes.diagnosis import Object
from ops.kubernetes.watch import Watcher

VERSION = "batch/v1"
POLL_INTERVAL_SECONDS = 1
DELETE_SECONDS = 60
# The label that Kubernetes sets on a Job's pods: https://kubernetes.io/docs/reference/labels-annotations-taints/#batchkubernetesio-job-name
JOB_LABEL = "batch.kubernetes.io/job-name"


def start(cluster: Cluster, namespace: str, manifest: Object) -> None:
    """Create a Job, and replace a finished Job with the same name.

    Raises:
        OperationError: A Job with this name is still running, or the cluster refused the Job.
    """
    name = manifest["metadata"]["name"]
    found = _job(cluster, namespace, name)
    if found and (has_ended(found) or "deletionTimestamp" in found["metadata"]):
        delete(cluster, namespace, name)
    try:
        cluster.create(namespace, manifest)
    except ConflictError as error:
        raise OperationError(
            f"the Job {name} is already running in {namespace}: wait until it ends, or delete it with "
            f"`kubectl --namespace {namespace} delete job {name}`"
        ) from error


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
    reported: set[str] = set()
    while True:
        pod = next(iter(cluster.objects("Pod", namespace, f"{JOB_LABEL}={name}")), None)
        job = _job(cluster, namespace, name)
        for container in containers(pod) if pod else ():
            if not container["state"].get("waiting") and container["name"] not in reported:
                reported.add(container["name"])
                report(container["name"])
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
    with suppress(NotFoundError):
        # Kubernetes removes the Job after its pods.
        cluster.delete("Job", name, namespace, {"propagationPolicy": "Foreground"}, VERSION)
    deadline = time.monotonic() + DELETE_SECONDS
    while _job(cluster, namespace, name):
        if time.monotonic() > deadline:
            raise OperationError(
                f"the Job {name} in {namespace} is still there {DELETE_SECONDS} s after it was deleted: check its pods "
                "with `kubectl describe`"
            )
        time.sleep(POLL_INTERVAL_SECONDS)


def _job(cluster: Cluster, namespace: str, name: str) -> Object | None:
    return cluster.get("Job", name, namespace, VERSION)


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
