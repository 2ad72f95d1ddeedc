"""Create or update the preview environment of a branch."""

from __future__ import annotations

import getpass
import os
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
from ops.console import Echo
from ops.kubernetes.watch import Watch, Watcher
from ops.previews.base import records_of
from ops.previews.records import Record
from ops.previews.rules import check_branch, check_connections, check_room, expiry
from ops.pulumi.pending import settle
from ops.stacks.missing_images import check_preview_images
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.preview_stack import PreviewStack

GIT_SECONDS = 30


def bring_up(base: PlatformStack, branch: str, hours: float, echo: Echo) -> PreviewSettings:
    """Create the environment of a branch, or update it and extend its lifetime.

    Raises:
        OperationError: A check failed, or the deployment failed.
    """
    check_branch(branch, stack_summaries())
    check_exists(branch, base.settings.dags.repository if base.settings.dags else None)
    record = keep_record(base, branch, hours, datetime.now(UTC))
    settings = record.settings
    write_file(record)
    preview = PreviewStack(base, settings)
    if preview.git_server:
        dags.push(preview, echo, f"refs/heads/{branch}")
    check_preview_images(base)
    deployment = preview.deployment
    settle(deployment, preview.look_up, echo)
    deployment.run("up", "--yes", "--skip-preview", watch=_watcher(preview))
    return settings


def keep_record(base: PlatformStack, branch: str, hours: float, now: datetime) -> Record:
    """Write the record of an environment, new or with an extended lifetime, and return it.

    Raises:
        OperationError: The base has no room for it, or it is being removed.
    """
    stack, records = stack_name(base.name, branch), records_of(base)
    present = {record.stack: record for record in records.all()}
    check_room(base.name, stack, present, base.settings.max_previews)
    check_connections(base.name, base.settings, stack, present)
    found = present.get(stack, Record(stack, ""))
    if found.removing:
        raise OperationError(
            f"{stack} is being removed: if that was interrupted, finish it with `make preview-env-down "
            f"BRANCH={branch} STACK={base.name}`, then rerun this command"
        )
    before = _readable(found)
    settings = PreviewSettings(
        base=base.name,
        branch=branch,
        owner=before.owner if before else _current_user(),
        expires_at=expiry(now, hours, before.expires_at if before else None),
    )
    return records.save(replace(found, text=text_of(settings, read_text(file_of(base.name)))))


def _readable(record: Record) -> PreviewSettings | None:
    """Return the settings in a record; None if it is new or invalid."""
    try:
        return record.settings
    except SettingsError:
        return None


def write_file(record: Record) -> None:
    """Write the stack file of an environment, which Pulumi and all commands read."""
    file = file_of(record.stack)
    temporary = file.with_suffix(".part")
    temporary.write_text(record.text)
    temporary.replace(file)


def _watcher(preview: PreviewStack) -> Watcher:
    """Return a watcher for the pods in the environment's namespaces and for the Job that creates its databases."""
    cluster, diagnosis = preview.cluster, preview.diagnosis
    watches = (
        Watch(cluster, (preview.namespace, preview.tasks_namespace), diagnosis),
        Watch(cluster, (preview.setup_namespace,), diagnosis, of=preview.name),
    )
    return lambda: next(filter(None, (watch() for watch in watches)), None)


def _current_user() -> str:
    command = ["git", "-C", str(REPOSITORY), "config", "user.name"]
    named = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return named or getpass.getuser()


def check_exists(branch: str, repository: str | None) -> None:
    """Check that a branch exists in a repository, or in this clone if none is given.

    Raises:
        OperationError: The branch does not exist, or the repository cannot be read.
    """
    if repository is None:
        if _git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").returncode != 0:
            raise OperationError(f"this clone has no branch {branch}: fetch it, or check its name with `git branch`")
        return
    listed = _git("ls-remote", repository, f"refs/heads/{branch}")
    if listed.returncode != 0:
        reason = (listed.stderr.strip().splitlines() or ["no answer"])[-1]
        raise OperationError(f"the branches of {repository} cannot be read ({reason}): check your access to it")
    if not listed.stdout.strip():
        raise OperationError(f"{repository} has no branch {branch}: push it, or correct its name")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=GIT_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise OperationError(f"`git {arguments[0]}` did not finish within {GIT_SECONDS} s: check the network") from None
