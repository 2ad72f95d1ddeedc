"""The Job that migrates a copy of a database, and the one that drops the copy, as Kubernetes' API takes them.

Passwords come out of the Secret by which the stack's own databases were made; no other is made for this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.client import V1PodSecurityContext, V1SecurityContext

from infra import helm_values, restricted_pods
from infra.database_setup import LABELS

Manifest = dict[str, Any]

# One at a time: the name is the lock.
REHEARSAL = "rehearsal"
DROP = "rehearsal-drop"
COPY_STEP, MIGRATE_STEP, COUNT_STEP, DROP_STEP = "copy", "migrate", "count", "drop"

# For a copy of tens of GiB. While no node has room, a copy waits as long to be dropped.
TIMEOUT_SECONDS = 3600
# Of a Job whose rehearsal was killed.
KEEP_SECONDS = 3600

# Of the user in Airflow's image.
AIRFLOW_USER_ID = 50000
CONNECTION = "postgresql://$(DATABASE_NAME):$(DATABASE_PASSWORD)@$(PGHOST):$(PGPORT)/{copy}?sslmode=$(PGSSLMODE)"
OWNER = ("DATABASE_NAME", "DATABASE_PASSWORD", "PGHOST", "PGPORT", "PGSSLMODE")


def script(name: str) -> str:
    """Return one of the scripts beside this file."""
    return Path(__file__).with_name(f"{name}.sh").read_text()


@dataclass(frozen=True)
class Server:
    """A database server, and where in the cluster its administrator may be.

    Attributes:
        namespace: The namespace that has the administrator's password.
        secret: The Secret with it, and with the access to Airflow's database.
        image: An image with PostgreSQL's programs.
        user_id: The user that runs them.
        disk_bytes: The size of the server's disk.
    """

    namespace: str
    secret: str
    image: str
    user_id: int
    disk_bytes: int


def rehearsal(server: Server, copy: str, image: str) -> Manifest:
    """Return the Job that copies the database, migrates the copy by an image of Airflow, and counts its rows twice."""
    before = _client(server, COPY_STEP, copy, script("copy_database") + script("count_rows"), cpu="100m")
    after = _client(server, COUNT_STEP, copy, script("count_rows"))
    return job_manifest(server, REHEARSAL, [before, _migration(server, copy, image)], after, TIMEOUT_SECONDS)


def drop(server: Server, copy: str) -> Manifest:
    """Return the Job that drops the copy."""
    return job_manifest(server, DROP, [], _client(server, DROP_STEP, copy, script("drop_database")), TIMEOUT_SECONDS)


def job_manifest(server: Server, name: str, first: list[Manifest], last: Manifest, seconds: int) -> Manifest:
    """Return a Job that may reach the server: containers that run one after the other, once, for so long at most."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "template": {
                # Network policies let pods with these labels reach the server.
                "metadata": {"labels": LABELS, "annotations": {"karpenter.sh/do-not-disrupt": "true"}},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": V1PodSecurityContext(**restricted_pods.pod(server.user_id)),
                    "initContainers": first,
                    "containers": [last],
                    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
                },
            },
        },
    }


def _client(server: Server, name: str, copy: str, program: str, cpu: str = "10m") -> Manifest:
    return container(
        name,
        server.image,
        ["sh", "-c", program],
        [_value("COPY", copy), _value("DISK_BYTES", str(server.disk_bytes))],
        {"requests": {"cpu": cpu, "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
    ) | {"envFrom": [{"secretRef": {"name": server.secret}}]}


def _migration(server: Server, copy: str, image: str) -> Manifest:
    """Return what the chart's Job runs, with the rights of the database's owner and not the administrator's."""
    airflow = helm_values.read(helm_values.SHARED)
    variables = {
        "AIRFLOW_HOME": "/tmp/airflow",  # noqa: S108 - the pod's own
        "AIRFLOW__CORE__AUTH_MANAGER": airflow["config"]["core"]["auth_manager"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": CONNECTION.format(copy=copy),
        # The copy's administrator, who will be dropped with it.
        "AIRFLOW_ADMIN_USERNAME": "admin",
        "AIRFLOW_ADMIN_PASSWORD": "$(DATABASE_PASSWORD)",
    }
    access = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": server.secret, "key": key}}}
        for key in OWNER  # before what refers to them
    ]
    job = airflow["migrateDatabaseJob"]
    environment = [*access, *(_value(name, value) for name, value in variables.items())]
    return container(MIGRATE_STEP, image, job["command"], environment, job["resources"], AIRFLOW_USER_ID)


def container(
    name: str,
    image: str,
    command: list[str],
    environment: list[Manifest],
    resources: Mapping[str, Any],
    user_id: int | None = None,
) -> Manifest:
    """Return a container that writes to /tmp alone; it runs as the pod's user, or as another of the group 0."""
    user = {"run_as_user": user_id, "run_as_group": 0} if user_id else {}
    return {
        "name": name,
        "image": image,
        "command": command,
        "env": environment,
        "resources": resources,
        "securityContext": V1SecurityContext(**restricted_pods.CONTAINER, **user),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _value(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}
