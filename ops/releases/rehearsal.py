"""Rehearse a release's migrations on a copy of a stack's metadata database, in the stack's cluster."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from infra.errors import OperationError
from infra.release import Release
from ops.images import registries
from ops.kubernetes import jobs
from ops.kubernetes.diagnosis import Object
from ops.kubernetes.watch import Watch
from ops.releases.database import MLFLOW
from ops.releases.rehearsal_jobs import (
    COPY_STEP,
    COUNT_STEP,
    DROP,
    DROP_STEP,
    MIGRATE_STEP,
    REHEARSAL,
    drop,
    rehearsal,
)
from ops.stacks.platform_stack import DatabaseServer, PlatformStack
from ops.stacks.resolve import resolve

IMAGE = "airflow"
DOING = {
    COPY_STEP: "copying the database",
    MIGRATE_STEP: "migrating the copy",
    COUNT_STEP: "counting its rows",
    DROP_STEP: "dropping the copy",
}
FAILED = {
    COPY_STEP: "the database cannot be copied",
    MIGRATE_STEP: "the migration failed on a copy of the database",
    COUNT_STEP: "the migrated copy cannot be read",
}
# The line of a traceback with the error; other lines may follow.
EXCEPTION = re.compile(r"^[\w.]+(Error|Exception)\b")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Contents:
    """The content of a database: the revisions of its schema, the row counts of its main tables, its size in bytes."""

    revisions: Mapping[str, str]
    rows: Mapping[str, int]
    size: int

    @classmethod
    def of(cls, log: str) -> Contents:
        """Parse the output of the scripts."""
        words = [line.split() for line in log.splitlines()]
        return cls(
            revisions={line[1]: line[2] for line in words if line[:1] == ["revision"]},
            rows={line[1]: int(line[2]) for line in words if line[:1] == ["rows"]},
            size=next((int(line[1]) for line in words if line[:1] == ["size"]), 0),
        )


def rehearse(stack: PlatformStack, release: Release) -> None:
    """Migrate a copy of the stack's database with the release's image, and always drop the copy.

    Raises:
        SettingsError: The settings of the release's stack are missing or invalid.
        ContextError: The settings do not allow the current context.
        OperationError: The migration failed or could not be run.
    """
    server = stack.database_server
    image = release.images[IMAGE]
    if release.stack != stack.name:
        source = resolve(release.stack, stack.echo).registry()
        image = registries.copy(source, stack.registry(), image, IMAGE, stack.echo)
    rehearse_on(stack, server, stack.database_bytes(), image.name, release.database_revisions)


def rehearse_on(
    stack: PlatformStack, server: DatabaseServer, disk_bytes: int, image: str, revisions: Mapping[str, str]
) -> None:
    """Migrate a copy with an Airflow image, check the result, and drop the copy.

    Raises:
        OperationError: The migration failed or could not be run.
    """
    cluster, namespace = stack.cluster, server.namespace
    copy = f"rehearsal_{secrets.token_hex(4)}"
    jobs.start(cluster, namespace, rehearsal(server, disk_bytes, copy, image))
    try:
        watch = Watch(cluster, (namespace,), stack.diagnosis, of=REHEARSAL)
        pod = jobs.ended(cluster, namespace, REHEARSAL, watch, lambda step: stack.echo(DOING[step]))
        log = partial(cluster.log, namespace, pod["metadata"]["name"])
        if container := jobs.failed(pod):
            step = container["name"]
            raise OperationError(f"{FAILED[step]}: {reason(container, log(step))}")
        before, after = Contents.of(log(COPY_STEP)), Contents.of(log(COUNT_STEP))
        if complaint := difference(before, after, revisions):
            raise OperationError(complaint)
        stack.echo(report(seconds(pod, MIGRATE_STEP), before))
    finally:
        drop_copy(stack, server, copy)


def drop_copy(stack: PlatformStack, server: DatabaseServer, copy: str) -> None:
    """Stop Jobs that use the copy, and drop it. If that fails, print it: the next rehearsal drops the copy."""
    cluster, namespace = stack.cluster, server.namespace
    try:
        for name in (REHEARSAL, DROP):
            jobs.delete(cluster, namespace, name)
        jobs.start(cluster, namespace, drop(server, copy))
        watch = Watch(cluster, (namespace,), stack.diagnosis, of=DROP)
        pod = jobs.ended(cluster, namespace, DROP, watch, lambda step: stack.echo(DOING[step]))
        if container := jobs.failed(pod):
            raise OperationError(reason(container, cluster.log(namespace, pod["metadata"]["name"], container["name"])))
        jobs.delete(cluster, namespace, DROP)
    except OperationError as error:
        stack.echo(f"the copy {copy} is still there ({error}): the next rehearsal drops it")


def difference(before: Contents, after: Contents, revisions: Mapping[str, str]) -> str | None:
    """Return what is wrong with a migrated copy; None if it is as expected."""
    for table, revision in revisions.items():
        if table != MLFLOW and after.revisions.get(table) != revision:
            return (
                f"the migrated copy is at {table} {after.revisions.get(table, 'none')}, but the release's record says "
                f"{revision}: record the release again from its own commit"
            )
    lost = [
        f"{table} from {count} to {after.rows.get(table, 0)}"
        for table, count in before.rows.items()
        if after.rows.get(table, 0) < count
    ]
    return f"the migration loses rows: {', '.join(lost)}" if lost else None


def report(seconds: float, before: Contents) -> str:
    """Return the report of a successful migration."""
    return (
        f"the migration took {seconds:.0f} s on a copy of {before.size / MEBIBYTE:.0f} MiB and kept all "
        f"{sum(before.rows.values()):,} rows of {len(before.rows)} tables"
    )


def reason(container: Object, log: str) -> str:
    """Return why a container failed."""
    if container["state"]["terminated"].get("reason") == "OOMKilled":
        return "it exceeded its memory limit"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    exceptions = [line for line in lines if EXCEPTION.match(line)]
    return (exceptions or lines or ["it logged nothing"])[-1]


def seconds(pod: Object, name: str) -> float:
    """Return how long a container of a pod ran."""
    [state] = [one["state"]["terminated"] for one in jobs.containers(pod) if one["name"] == name]
    begun, ended = (datetime.fromisoformat(state[key]) for key in ("startedAt", "finishedAt"))
    return (ended - begun).total_seconds()
