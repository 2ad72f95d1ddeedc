"""Rehearse a release's migrations on a copy of a stack's metadata database, in the stack's cluster."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from infra.aws import database as rds
from infra.aws.names import Limit, Names
from infra.database_setup import setup_name
from infra.errors import OperationError
from infra.existing_cluster import database as postgres
from infra.existing_cluster_names import platform_namespace
from infra.release import Release
from infra.settings import PROJECT, ExistingClusterSettings, Settings, load
from ops.airflow.installation import Installation, installation_of
from ops.aws.account import account_of, aws_errors
from ops.console import Echo
from ops.images import registries
from ops.kubernetes import jobs
from ops.kubernetes.cluster import Cluster
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
    Server,
    drop,
    rehearsal,
)

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


def rehearse(stack: str, release: Release, echo: Echo) -> None:
    """Migrate a copy of the stack's database with the release's image, and always drop the copy.

    Raises:
        SettingsError: The settings are missing or invalid.
        ContextError: The settings do not allow the current context.
        OperationError: The migration failed or could not be run.
    """
    settings = load(stack)
    installation = installation_of(stack, echo)
    server = server_of(stack, settings, installation.cluster)
    image = release.images[IMAGE]
    if release.stack != stack:
        source = registries.registry_of(release.stack, load(release.stack))
        image = registries.copy(source, registries.registry_of(stack, settings), image, IMAGE, echo)
    rehearse_on(installation, server, image.name, release.database_revisions, echo)


def server_of(stack: str, settings: Settings | ExistingClusterSettings, cluster: Cluster) -> Server:
    """Return the stack's database server.

    Raises:
        OperationError: The stack has no database server yet, or a request failed.
    """
    if isinstance(settings, ExistingClusterSettings):
        namespace, image, user_id = platform_namespace(settings.namespace), postgres.IMAGE, postgres.USER_ID
        disk_gib = postgres.VOLUME_GIB
    else:
        namespace, image, user_id = rds.SETUP_NAMESPACE, rds.CLIENT_IMAGE, rds.CLIENT_USER_ID
        name = Names(PROJECT, stack).of("database", Limit.DATABASE)
        with aws_errors():
            found = account_of(stack, settings).client("rds").describe_db_instances(DBInstanceIdentifier=name)
        disk_gib = found["DBInstances"][0]["AllocatedStorage"]
    prefix = setup_name("airflow")
    secret = next((one for one in cluster.secrets(namespace) if one.startswith(prefix)), None)
    if secret is None:
        raise OperationError(f"{stack} has no database to rehearse on: run `make deploy STACK={stack}` first")
    return Server(namespace, secret, image, user_id, disk_gib * 2**30)


def rehearse_on(
    installation: Installation, server: Server, image: str, revisions: Mapping[str, str], echo: Echo
) -> None:
    """Migrate a copy with an Airflow image, check the result, and drop the copy.

    Raises:
        OperationError: The migration failed or could not be run.
    """
    cluster, namespace = installation.cluster, server.namespace
    copy = f"rehearsal_{secrets.token_hex(4)}"
    jobs.start(cluster, namespace, rehearsal(server, copy, image))
    try:
        watch = Watch(cluster, (namespace,), installation.diagnosis, of=REHEARSAL)
        pod = jobs.ended(cluster, namespace, REHEARSAL, watch, lambda step: echo(DOING[step]))
        log = partial(cluster.log, namespace, pod["metadata"]["name"])
        if container := jobs.failed(pod):
            step = container["name"]
            raise OperationError(f"{FAILED[step]}: {reason(container, log(step))}")
        before, after = Contents.of(log(COPY_STEP)), Contents.of(log(COUNT_STEP))
        if complaint := difference(before, after, revisions):
            raise OperationError(complaint)
        echo(report(seconds(pod, MIGRATE_STEP), before))
    finally:
        drop_copy(installation, server, copy, echo)


def drop_copy(installation: Installation, server: Server, copy: str, echo: Echo) -> None:
    """Stop Jobs that use the copy, and drop it. If that fails, print it: the next rehearsal drops the copy."""
    cluster, namespace = installation.cluster, server.namespace
    try:
        for name in (REHEARSAL, DROP):
            jobs.delete(cluster, namespace, name)
        jobs.start(cluster, namespace, drop(server, copy))
        watch = Watch(cluster, (namespace,), installation.diagnosis, of=DROP)
        pod = jobs.ended(cluster, namespace, DROP, watch, lambda step: echo(DOING[step]))
        if container := jobs.failed(pod):
            raise OperationError(reason(container, cluster.log(namespace, pod["metadata"]["name"], container["name"])))
        jobs.delete(cluster, namespace, DROP)
    except OperationError as error:
        echo(f"the copy {copy} is still there ({error}): the next rehearsal drops it")


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
