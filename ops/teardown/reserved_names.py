"""Delete what would block the next deployment, because it has the name of a resource that the deployment creates."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from infra.aws.names import LOG_GROUPS, Limit, Names
from ops.aws.account import Account, aws_errors
from ops.aws.eks_cluster import describe
from ops.console import Echo


def free_names(account: Account, names: Names, known: Collection[str], echo: Echo) -> None:
    """Delete the log groups and the deleted secrets of a stack whose cluster does not exist.

    Args:
        account: The account.
        names: The names of the stack.
        known: The IDs of the resources in Pulumi's state.
        echo: Prints what is deleted.

    Raises:
        OperationError: AWS refused a request.
    """
    if describe(account, names.of("cluster", Limit.CLUSTER)):
        return
    with aws_errors():
        logs, secrets = account.client("logs"), account.client("secretsmanager")
        for group in set(log_groups(account, names.prefix)) - set(known):
            logs.delete_log_group(logGroupName=group)
            echo(f"deleted the log group {group} of a cluster that no longer exists")
        for name in _deleted_secrets(account, names.prefix):
            secrets.restore_secret(SecretId=name)  # only a secret that is not scheduled for deletion can be deleted now
            secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
            echo(f"deleted the secret {name}, which was scheduled for deletion")


def log_groups(account: Account, prefix: str) -> Iterator[str]:
    """Yield the names of a stack's log groups. AWS creates one again if it writes a line after the deletion."""
    pages = account.client("logs").get_paginator("describe_log_groups")
    for path in LOG_GROUPS:
        for page in pages.paginate(logGroupNamePrefix=f"/aws/{path}/{prefix}-"):
            yield from (group["logGroupName"] for group in page["logGroups"])


def _deleted_secrets(account: Account, prefix: str) -> Iterator[str]:
    filters = [{"Key": "name", "Values": [f"{prefix}/"]}]
    pages = account.client("secretsmanager").get_paginator("list_secrets")
    for page in pages.paginate(IncludePlannedDeletion=True, Filters=filters):
        yield from (secret["Name"] for secret in page["SecretList"] if "DeletedDate" in secret)
