"""Remove an environment: what Pulumi made, its databases, its objects, its branch; then prove that nothing is left."""

from __future__ import annotations

from contextlib import suppress

from infra.errors import OperationError
from infra.existing_cluster.names import GIT_REPOSITORY
from infra.operations import destroy, existing_cluster_destroy
from infra.operations.aws_deployment import AwsDeployment
from infra.operations.deployment import Say
from infra.operations.existing_cluster_deployment import STATE, ExistingClusterDeployment
from infra.operations.kubectl import answer_of
from infra.preview.base import Base
from infra.preview.database_drop import drop_databases
from infra.preview.environment import write_file
from infra.preview.objects import delete_objects
from infra.preview.records import Record
from infra.preview.settings import file_of


def remove(base: Base, record: Record, say: Say) -> None:
    """Remove an environment; what was interrupted goes on where it stopped.

    Raises:
        OperationError: A step failed, or something is left; the record stays until nothing is.
    """
    stack = record.stack
    record = base.records.begin_removal(record)
    write_file(record)
    deployment = base.deployment_of(stack)
    _destroy(deployment, say)
    drop_databases(base, stack, say)
    delete_objects(base, stack, say)
    if base.installation.git_server:
        _delete_branch(base, stack)
    deployment.run("stack", "rm", "--yes", "--preserve-config")
    base.records.delete(record)
    forget(stack)
    say(f"{stack} is gone")


def _destroy(deployment: AwsDeployment | ExistingClusterDeployment, say: Say) -> None:
    stack = deployment.stack
    if isinstance(deployment, AwsDeployment):
        deployment.run("destroy", "--yes", "--refresh")
        destroy.report(deployment.account, stack, say)
        return
    objects = deployment.objects()
    deployment.run("destroy", "--yes", "--refresh")
    existing_cluster_destroy.report(stack, deployment.cluster, objects, (stack,), say)


def _delete_branch(base: Base, stack: str) -> None:
    installation = base.installation
    deleted = answer_of(
        installation.cluster,
        *("--namespace", installation.namespaces[0], "exec", str(installation.git_server), "--"),
        *("git", "--git-dir", GIT_REPOSITORY, "update-ref", "-d", f"refs/heads/{stack}"),
    )
    if deleted is None:
        raise OperationError(
            f"the branch {stack} is still on the Git server of {base.stack}: see its pod with `make status "
            f"STACK={base.stack}`"
        )


def forget(stack: str) -> None:
    """Delete what this clone knows of an environment that is gone."""
    for file in (file_of(stack), file_of(stack, STATE)):
        with suppress(FileNotFoundError):
            file.unlink()
