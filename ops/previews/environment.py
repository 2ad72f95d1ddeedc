"""Give a branch an environment, or bring the one that it has to what this clone says."""

from __future__ import annotations

import getpass
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

from infra.documents import REPOSITORY, read_text
from infra.errors import OperationError
from infra.preview_names import stack_name
from infra.previews.settings import PreviewSettings, file_of, text_of
from infra.settings import SettingsError
from infra.settings.loading import stack_summaries
from ops.airflow import dags
from ops.airflow.installation import Installation, of_preview
from ops.console import Echo
from ops.kubernetes.watch import Watch, Watcher
from ops.previews.base import Base
from ops.previews.branches import check_exists
from ops.previews.records import Record
from ops.previews.rules import check_branch, check_room, expiry
from ops.pulumi.stack_images import check_preview_images


def bring_up(base: Base, branch: str, hours: float, echo: Echo) -> PreviewSettings:
    """Make the environment of a branch, or bring it up to date and give it more time.

    Raises:
        OperationError: It may not be made, or its deployment failed.
    """
    check_branch(branch, stack_summaries())
    check_exists(branch, base.settings.dags.repository if base.settings.dags else None)
    record = keep_record(base, branch, hours, datetime.now(UTC))
    settings = record.settings
    write_file(record)
    installation = of_preview(settings, base.installation)
    if installation.git_server:
        dags.push(installation, echo, f"refs/heads/{branch}")
    check_preview_images(base.deployment)
    deployment = base.deployment_of(settings.stack)
    _keep_key(base, record)
    deployment.run("up", "--yes", "--skip-preview", watch=_watcher(base, installation))
    return settings


def keep_record(base: Base, branch: str, hours: float, now: datetime) -> Record:
    """Write the record of an environment, new or with more time, and return it.

    Raises:
        OperationError: The base has no room for it, or it is being removed.
    """
    stack, records = stack_name(base.stack, branch), base.records
    present = {record.stack: record for record in records.all()}
    check_room(base.stack, stack, present, base.settings.max_previews)
    found = present.get(stack, Record(stack, ""))
    if found.removing:
        raise OperationError(
            f"{stack} is being removed: if that was interrupted, finish it with `make preview-env-down "
            f"BRANCH={branch} STACK={base.stack}`, then run the same command again"
        )
    before = _readable(found)
    settings = PreviewSettings(
        base=base.stack,
        branch=branch,
        owner=before.owner if before else _whoever_works_here(),
        expires_at=expiry(now, hours, before.expires_at if before else None),
    )
    return records.save(replace(found, text=text_of(settings, read_text(file_of(base.stack)))))


def _readable(record: Record) -> PreviewSettings | None:
    """Return the settings in a record; None where it is new, or somebody broke it."""
    try:
        return record.settings
    except SettingsError:
        return None


def write_file(record: Record) -> None:
    """Write the stack file of an environment, by which Pulumi and every command know it."""
    file = file_of(record.stack)
    temporary = file.with_suffix(".part")
    temporary.write_text(record.text)
    temporary.replace(file)


def _keep_key(base: Base, record: Record) -> None:
    """Keep with the record what Pulumi wrote into the file, where the base's file did not name its key."""
    text = read_text(file_of(record.stack))
    if text != record.text:
        base.records.save(replace(record, text=text))


def _watcher(base: Base, installation: Installation) -> Watcher:
    """Return what looks at the environment's pods, in its namespace and where its databases are made."""
    cluster, stack = installation.cluster, installation.stack
    watches = (
        Watch(cluster, (stack,), installation.diagnosis),
        Watch(cluster, (base.setup_namespace,), installation.diagnosis, of=stack),
    )
    return lambda: next(filter(None, (watch() for watch in watches)), None)


def _whoever_works_here() -> str:
    command = ["git", "-C", str(REPOSITORY), "config", "user.name"]
    named = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return named or getpass.getuser()
