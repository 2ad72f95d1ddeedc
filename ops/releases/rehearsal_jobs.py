"""The manifests of the Jobs that migrate a copy of a database and drop the copy.

Passwords come from the Secret with which the stack's databases were created. No other Secret is created.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes.client import V1PodSecurityContext, V1SecurityContext

from infra import helm_values, restricted_pods
from infra.airflow_names import DATABASE_CA, DATABASE_CA_FILE, DATABASE_CA_FOLDER, DATABASE_SETUP_LABELS, USER_ID
from ops.stacks.platform_stack import DatabaseServer

Manifest = dict[str, Any]

# The name is the lock: only one rehearsal runs at a time.
REHEARSAL = "rehearsal"
DROP = "rehearsal-drop"
COPY_STEP, MIGRATE_STEP, COUNT_STEP, DROP_STEP = "copy", "migrate", "count", "drop"

# Enough for a copy of tens of GiB. Also the longest time that a copy waits for a node to be dropped.
TIMEOUT_SECONDS = 3600
# How long the Job of an interrupted rehearsal is kept.
KEEP_SECONDS = 3600

CONNECTION = (
    "postgresql://$(DATABASE_NAME):$(DATABASE_PASSWORD)@$(PGHOST):$(PGPORT)/{copy}"
    f"?sslmode=$(PGSSLMODE)&sslrootcert={DATABASE_CA_FOLDER}/{DATABASE_CA_FILE}"
)
OWNER = ("DATABASE_NAME", "DATABASE_PASSWORD", "PGHOST", "PGPORT", "PGSSLMODE")


def script(name: str) -> str:
    """Return a script from this folder."""
    return Path(__file__).with_name(f"{name}.sh").read_text()


def rehearsal(server: DatabaseServer, disk_bytes: int, copy: str, image: str) -> Manifest:
    """Return the Job that copies the database, migrates the copy, and counts its rows before and after."""
    program = script("copy_database") + script("count_rows")
    before = _client(server, COPY_STEP, copy, program, cpu="100m", disk_bytes=disk_bytes)
    after = _client(server, COUNT_STEP, copy, script("count_rows"))
    return job_manifest(server, REHEARSAL, [before, _migration(server, copy, image)], after, TIMEOUT_SECONDS)


def drop(server: DatabaseServer, copy: str) -> Manifest:
    """Return the Job that drops the copy."""
    return job_manifest(server, DROP, [], _client(server, DROP_STEP, copy, script("drop_database")), TIMEOUT_SECONDS)


def job_manifest(server: DatabaseServer, name: str, first: list[Manifest], last: Manifest, seconds: int) -> Manifest:
    """Return a Job with access to the server. Its containers run in order, once, within the time limit."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": DATABASE_SETUP_LABELS},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "template": {
                # Network policies let pods with these labels reach the server.
                "metadata": {"labels": DATABASE_SETUP_LABELS, "annotations": {"karpenter.sh/do-not-disrupt": "true"}},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": V1PodSecurityContext(**restricted_pods.pod(server.user_id)),
                    "initContainers": first,
                    "containers": [last],
                    "volumes": [
                        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
                        {
                            "name": DATABASE_CA,
                            "secret": {
                                "secretName": server.secret,
                                "items": [{"key": DATABASE_CA_FILE, "path": DATABASE_CA_FILE}],
                                # A stack that was deployed by an earlier release does not verify the server.
                                "optional": True,
                            },
                        },
                    ],
                },
            },
        },
    }


def _client(
    server: DatabaseServer, name: str, copy: str, program: str, *, cpu: str = "10m", disk_bytes: int = 0
) -> Manifest:
    return container(
        name,
        server.image,
        ["sh", "-c", program],
        [_value("COPY", copy), _value("DISK_BYTES", str(disk_bytes))],
        {"requests": {"cpu": cpu, "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
    ) | {"envFrom": [{"secretRef": {"name": server.secret}}]}


def _migration(server: DatabaseServer, copy: str, image: str) -> Manifest:
    """Return the chart's migration container, with the login of the database's owner instead of the administrator."""
    airflow = helm_values.read(helm_values.SHARED)
    variables = {
        "AIRFLOW_HOME": "/tmp/airflow",  # noqa: S108 - the pod's own
        "AIRFLOW__CORE__AUTH_MANAGER": airflow["config"]["core"]["auth_manager"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": CONNECTION.format(copy=copy),
        # An administrator in the copy, dropped together with it.
        "AIRFLOW_ADMIN_USERNAME": "admin",
        "AIRFLOW_ADMIN_PASSWORD": "$(DATABASE_PASSWORD)",
    }
    access = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": server.secret, "key": key}}}
        for key in OWNER  # must precede the variables that refer to them
    ]
    job = airflow["migrateDatabaseJob"]
    environment = [*access, *(_value(name, value) for name, value in variables.items())]
    return container(MIGRATE_STEP, image, job["command"], environment, job["resources"], USER_ID)


def container(
    name: str,
    image: str,
    command: list[str],
    environment: list[Manifest],
    resources: Mapping[str, Any],
    user_id: int | None = None,
) -> Manifest:
    """Return a container that can write only to /tmp. It runs as the pod's user, or as `user_id` in the group 0."""
    user = {"run_as_user": user_id, "run_as_group": 0} if user_id else {}
    return {
        "name": name,
        "image": image,
        "command": command,
        "env": environment,
        "resources": resources,
        "securityContext": V1SecurityContext(**restricted_pods.CONTAINER, **user),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": DATABASE_CA, "mountPath": DATABASE_CA_FOLDER, "readOnly": True},
        ],
    }


def _value(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}
