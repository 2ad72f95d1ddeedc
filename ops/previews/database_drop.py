"""Drop an environment's databases and their users, from a pod in the cluster of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.airflow_names import DATABASE_USERS
from infra.errors import OperationError
from infra.preview_names import database_names
from ops.console import Echo
from ops.kubernetes import jobs
from ops.kubernetes.watch import Watch
from ops.releases.rehearsal import reason
from ops.releases.rehearsal_jobs import container, job_manifest
from ops.stacks.platform_stack import DatabaseServer, PlatformStack

SCRIPT = Path(__file__).with_name("drop_databases.sh")
# Enough to start a node for the pod.
TIMEOUT_SECONDS = 600


def drop_databases(base: PlatformStack, stack: str, echo: Echo) -> None:
    """Drop the databases if they exist.

    Raises:
        OperationError: The databases cannot be dropped.
    """
    cluster, namespace = base.cluster, base.setup_namespace
    manifest = manifest_of(base.database_server, stack)
    name = manifest["metadata"]["name"]
    jobs.start(cluster, namespace, manifest)
    watch = Watch(cluster, (namespace,), base.diagnosis, of=name)
    pod = jobs.ended(cluster, namespace, name, watch, lambda _: echo("dropping the databases"))
    if failed := jobs.failed(pod):
        log = cluster.log(namespace, pod["metadata"]["name"], failed["name"])
        raise OperationError(f"the databases of {stack} cannot be dropped: {reason(failed, log)}")
    jobs.delete(cluster, namespace, name)


def manifest_of(server: DatabaseServer, stack: str) -> dict[str, Any]:
    """Return the manifest of the Job. It uses the base's Secret with the administrator's password."""
    psql = container(
        "drop",
        server.image,
        ["sh", "-c", SCRIPT.read_text()],
        [
            {"name": "DATABASES", "value": " ".join(database_names(stack).values())},
            {"name": "COMPONENTS", "value": " ".join(DATABASE_USERS)},
        ],
        {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    )
    return job_manifest(
        server, f"drop-{stack}", [], psql | {"envFrom": [{"secretRef": {"name": server.secret}}]}, TIMEOUT_SECONDS
    )
