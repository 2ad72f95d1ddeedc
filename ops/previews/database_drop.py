"""Drop an environment's databases and their owners, from a pod in the cluster of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.aws import database as rds
from infra.database_setup import setup_name
from infra.errors import OperationError
from infra.existing_cluster import database as postgres
from infra.preview_names import database_names
from infra.settings import ExistingClusterSettings
from ops.console import Echo
from ops.kubernetes import jobs
from ops.kubernetes.watch import Watch
from ops.previews.base import Base
from ops.releases.rehearsal import reason
from ops.releases.rehearsal_jobs import Server, container, job_manifest

SCRIPT = Path(__file__).with_name("drop_databases.sh")
# Enough to start a node for the pod.
TIMEOUT_SECONDS = 600


def drop_databases(base: Base, stack: str, echo: Echo) -> None:
    """Drop the databases if they exist.

    Raises:
        OperationError: The databases cannot be dropped.
    """
    cluster, namespace = base.installation.cluster, base.setup_namespace
    manifest = manifest_of(_server(base), stack)
    name = manifest["metadata"]["name"]
    jobs.start(cluster, namespace, manifest)
    watch = Watch(cluster, (namespace,), base.installation.diagnosis, of=name)
    pod = jobs.ended(cluster, namespace, name, watch, lambda _: echo("dropping the databases"))
    if failed := jobs.failed(pod):
        log = cluster.log(namespace, pod["metadata"]["name"], failed["name"])
        raise OperationError(f"the databases of {stack} cannot be dropped: {reason(failed, log)}")
    jobs.delete(cluster, namespace, name)


def manifest_of(server: Server, stack: str) -> dict[str, Any]:
    """Return the manifest of the Job. It uses the base's Secret with the administrator's password."""
    psql = container(
        "drop",
        server.image,
        ["sh", "-c", SCRIPT.read_text()],
        [{"name": "DATABASES", "value": " ".join(database_names(stack).values())}],
        {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    )
    return job_manifest(
        server, f"drop-{stack}", [], psql | {"envFrom": [{"secretRef": {"name": server.secret}}]}, TIMEOUT_SECONDS
    )


def _server(base: Base) -> Server:
    namespace = base.setup_namespace
    prefix = setup_name("airflow")
    secret = next((name for name in base.installation.cluster.secrets(namespace) if name.startswith(prefix)), None)
    if secret is None:
        raise OperationError(f"{base.stack} no longer has a database server: run `make deploy STACK={base.stack}`")
    if isinstance(base.settings, ExistingClusterSettings):
        return Server(namespace, secret, postgres.IMAGE, postgres.USER_ID, disk_bytes=0)
    return Server(namespace, secret, rds.CLIENT_IMAGE, rds.CLIENT_USER_ID, disk_bytes=0)
