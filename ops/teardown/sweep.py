"""Search an AWS account for leftovers of a stack."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from infra.aws.names import Names
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors
from ops.aws.lingering import gone
from ops.teardown.leaks import CLUSTER_TAG, KEEP_TAG
from ops.teardown.reserved_names import log_groups


@dataclass(frozen=True)
class Leftover:
    """A resource that still exists; `note` says what to do with it."""

    arn: str
    note: str = ""


def sweep(account: Account, stack: str, managed: Collection[str] = ()) -> list[Leftover]:
    """Return the leftovers of a stack: by tag, and by name for resources that the tagging API does not list.

    Resources that AWS still lists although they are deleted, or scheduled for deletion, do not count.

    Args:
        account: The account.
        stack: The stack.
        managed: The ARNs of resources that Pulumi still manages.

    Raises:
        OperationError: A request to AWS failed.
    """
    names = Names(PROJECT, stack)
    with aws_errors():
        found = {
            *_tagged(account, {"project": PROJECT, "stack": stack}),
            *_tagged(account, {CLUSTER_TAG: names.prefix + "-cluster"}),
            *_roles(account, names.prefix),
            *(_log_group_arn(account, group) for group in log_groups(account, names.prefix)),
            *_snapshots(account, names.prefix),
            *_backups(account, names.prefix),
        }
        volumes = set(_tagged(account, {KEEP_TAG: "true"}))
        left = [arn for arn in sorted(found) if not _arn_gone(account, arn)]
        return [Leftover(arn, note(arn, kept=arn in managed or arn in volumes)) for arn in left]


def note(arn: str, *, kept: bool) -> str:
    """Return why a resource outlives its stack on purpose, and what to do with it; empty if it does not."""
    service, resource = arn.split(":", 5)[2::3]
    if service == "rds" and resource.startswith(("snapshot:", "auto-backup:")):
        return "the database's last data: delete it when it is no longer needed"
    if service == "s3":
        return "a bucket that contains data: empty it and rerun this command when the data is no longer needed"
    if not kept:
        return ""
    if service == "ec2":
        return "a volume with the reclaim policy Retain: delete it when the data is no longer needed"
    return "the kept data needs it"


def _tagged(account: Account, tags: dict[str, str]) -> Iterator[str]:
    filters = [{"Key": key, "Values": [value]} for key, value in tags.items()]
    pages = account.client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(TagFilters=filters)
    for page in pages:
        yield from (item["ResourceARN"] for item in page["ResourceTagMappingList"])


def _roles(account: Account, prefix: str) -> Iterator[str]:
    for page in account.client("iam").get_paginator("list_roles").paginate():
        yield from (role["Arn"] for role in page["Roles"] if role["RoleName"].startswith(f"{prefix}-"))


def _log_group_arn(account: Account, group: str) -> str:
    return f"arn:aws:logs:{account.region}:{account.id}:log-group:{group}"


def _snapshots(account: Account, prefix: str) -> Iterator[str]:
    for page in account.client("rds").get_paginator("describe_db_snapshots").paginate():
        yield from (
            snapshot["DBSnapshotArn"]
            for snapshot in page["DBSnapshots"]
            if snapshot["DBInstanceIdentifier"].startswith(f"{prefix}-")
        )


def _backups(account: Account, prefix: str) -> Iterator[str]:
    for page in account.client("rds").get_paginator("describe_db_instance_automated_backups").paginate():
        yield from (
            backup["DBInstanceAutomatedBackupsArn"]
            for backup in page["DBInstanceAutomatedBackups"]
            if backup["DBInstanceIdentifier"].startswith(f"{prefix}-") and backup["Status"] == "retained"
        )


def _arn_gone(account: Account, arn: str) -> bool:
    service, resource = arn.split(":", 5)[2::3]
    kind, identity = [*re.split("[:/]", resource, maxsplit=1), ""][:2]
    return gone(account, service, kind, identity)
