"""Remove a preview environment: Pulumi's resources, databases, objects and branch; then prove that nothing is left."""

from __future__ import annotations

from contextlib import suppress

from infra.airflow_names import tasks_namespace
from infra.errors import OperationError
from infra.existing_cluster_names import GIT_REPOSITORY
from infra.previews.settings import file_of
from ops.console import Echo
from ops.kubernetes.kubectl import answer_of
from ops.previews.base import records_of
from ops.previews.database_drop import drop_databases
from ops.previews.environment import write_file
from ops.previews.objects import delete_objects
from ops.previews.records import Record
from ops.pulumi import local_state
from ops.stacks.platform_stack import PlatformStack


def remove(base: PlatformStack, record: Record, echo: Echo) -> None:
    """Remove an environment, or continue an interrupted removal.

    Raises:
        OperationError: A step failed, or resources are left. The record is kept until nothing is left.
    """
    stack = record.stack
    record = records_of(base).begin_removal(record)
    write_file(record)
    deployment = base.preview_deployment(stack)
    base.delete_resources(deployment, (stack, tasks_namespace(stack)))
    drop_databases(base, stack, echo)
    delete_objects(base, stack, echo)
    if base.git_server:
        _delete_branch(base, stack)
    deployment.run("stack", "rm", "--yes", "--preserve-config")
    records_of(base).delete(record)
    forget(stack)
    echo(f"{stack} is removed")


def _delete_branch(base: PlatformStack, stack: str) -> None:
    deleted = answer_of(
        base.cluster,
        *("--namespace", base.server_namespaces[0], "exec", str(base.git_server), "--"),
        *("git", "--git-dir", GIT_REPOSITORY, "update-ref", "-d", f"refs/heads/{stack}"),
    )
    if deleted is None:
        raise OperationError(
            f"the branch {stack} could not be deleted from the Git server of {base.name}: check its pod with "
            f"`make status STACK={base.name}`"
        )


def forget(stack: str) -> None:
    """Delete the local files of a removed environment."""
    for file in (file_of(stack), file_of(stack, local_state.FOLDER)):
        with suppress(FileNotFoundError):
            file.unlink()
