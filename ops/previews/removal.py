"""Remove a preview environment: Pulumi's resources, databases, objects and branch; then prove that nothing is left."""

from __future__ import annotations

from contextlib import suppress

from infra.errors import OperationError
from infra.existing_cluster_names import GIT_REPOSITORY
from infra.previews.settings import file_of
from ops.console import Echo
from ops.kubernetes.kubectl import answer_of
from ops.previews.base import Base
from ops.previews.database_drop import drop_databases
from ops.previews.environment import write_file
from ops.previews.objects import delete_objects
from ops.previews.records import Record
from ops.pulumi.aws_deployment import AwsDeployment
from ops.pulumi.existing_cluster_deployment import STATE, ExistingClusterDeployment
from ops.teardown import aws_teardown, existing_cluster_teardown


def remove(base: Base, record: Record, echo: Echo) -> None:
    """Remove an environment, or continue an interrupted removal.

    Raises:
        OperationError: A step failed, or resources are left. The record is kept until nothing is left.
    """
    stack = record.stack
    record = base.records.begin_removal(record)
    write_file(record)
    deployment = base.deployment_of(stack)
    _destroy(deployment, echo)
    drop_databases(base, stack, echo)
    delete_objects(base, stack, echo)
    if base.installation.git_server:
        _delete_branch(base, stack)
    deployment.run("stack", "rm", "--yes", "--preserve-config")
    base.records.delete(record)
    forget(stack)
    echo(f"{stack} is removed")


def _destroy(deployment: AwsDeployment | ExistingClusterDeployment, echo: Echo) -> None:
    stack = deployment.stack
    if isinstance(deployment, AwsDeployment):
        deployment.run("destroy", "--yes", "--refresh")
        aws_teardown.report(deployment.account, stack, echo)
        return
    objects = deployment.objects()
    deployment.run("destroy", "--yes", "--refresh")
    existing_cluster_teardown.report(stack, deployment.cluster, objects, (stack,), echo)


def _delete_branch(base: Base, stack: str) -> None:
    installation = base.installation
    deleted = answer_of(
        installation.cluster,
        *("--namespace", installation.namespaces[0], "exec", str(installation.git_server), "--"),
        *("git", "--git-dir", GIT_REPOSITORY, "update-ref", "-d", f"refs/heads/{stack}"),
    )
    if deleted is None:
        raise OperationError(
            f"the branch {stack} could not be deleted from the Git server of {base.stack}: check its pod with "
            f"`make status STACK={base.stack}`"
        )


def forget(stack: str) -> None:
    """Delete the local files of a removed environment."""
    for file in (file_of(stack), file_of(stack, STATE)):
        with suppress(FileNotFoundError):
            file.unlink()
