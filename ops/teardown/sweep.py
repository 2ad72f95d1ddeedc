"""Search an AWS account for leftovers of a stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.names import Names
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors, error_code

# EKS Auto Mode sets this tag on the instances, volumes, network interfaces and load balancers that it creates:
# https://docs.aws.amazon.com/eks/latest/userguide/tag-subnets-auto.html
CLUSTER_TAG = "eks:eks-cluster-name"
# Paths of log groups. EKS may write a last log line after its log group was deleted, which creates it again.
LOG_PATHS = ("/aws/eks/", "/aws/vpc/")


@dataclass(frozen=True)
class Leftover:
    """A resource that still exists; `note` says what to do with it."""

    arn: str
    note: str = ""


def sweep(account: Account, stack: str) -> list[Leftover]:
    """Return the leftovers of a stack: by tag, and by name for resources that the tagging API does not list.

    Resources that AWS still lists although they are deleted, or scheduled for deletion, do not count.

    Raises:
        OperationError: A request to AWS failed.
    """
    names = Names(PROJECT, stack)
    with aws_errors():
        found = {
            *_tagged(account, {"project": PROJECT, "stack": stack}),
            *_tagged(account, {CLUSTER_TAG: names.prefix + "-cluster"}),
            *_roles(account, names.prefix),
            *_log_groups(account, names.prefix),
            *_snapshots(account, names.prefix),
        }
        return [Leftover(arn, note(arn)) for arn in sorted(found) if not _gone(account, arn)]


def note(arn: str) -> str:
    """Return what to do with a resource that outlives its stack on purpose."""
    if ":snapshot:" in arn and arn.startswith("arn:aws:rds:"):
        return "the database's last snapshot, kept on purpose: delete it when the data is no longer needed"
    if arn.startswith("arn:aws:s3:::"):
        return "a bucket that still contains data: empty and delete it when the data is no longer needed"
    return ""


def _tagged(account: Account, tags: dict[str, str]) -> Iterator[str]:
    filters = [{"Key": key, "Values": [value]} for key, value in tags.items()]
    pages = account.client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(TagFilters=filters)
    for page in pages:
        yield from (item["ResourceARN"] for item in page["ResourceTagMappingList"])


def _roles(account: Account, prefix: str) -> Iterator[str]:
    for page in account.client("iam").get_paginator("list_roles").paginate():
        yield from (role["Arn"] for role in page["Roles"] if role["RoleName"].startswith(f"{prefix}-"))


def _log_groups(account: Account, prefix: str) -> Iterator[str]:
    for path in LOG_PATHS:
        pages = (
            account.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=f"{path}{prefix}-")
        )
        for page in pages:
            yield from (group["arn"].removesuffix(":*") for group in page["logGroups"])


def _snapshots(account: Account, prefix: str) -> Iterator[str]:
    for page in account.client("rds").get_paginator("describe_db_snapshots").paginate():
        yield from (
            snapshot["DBSnapshotArn"]
            for snapshot in page["DBSnapshots"]
            if snapshot["DBInstanceIdentifier"].startswith(f"{prefix}-")
        )


def _gone(account: Account, arn: str) -> bool:
    """Return whether a resource that the tagging API lists is deleted or scheduled for deletion."""
    service, resource = arn.split(":", 5)[2::3]
    kind, _, identity = resource.partition("/")
    check = LINGERING.get((service, kind))
    return check is not None and check(account, identity)


def _key_gone(account: Account, key: str) -> bool:
    return str(account.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"]) == "PendingDeletion"


def _state_gone(account: Account, ask: Callable[[Any], Any], missing: str, states: tuple[str, ...]) -> bool:
    """Return whether EC2 does not know a resource, or lists it as deleted."""
    try:
        found = ask(account.client("ec2"))
    except ClientError as error:
        if error_code(error).startswith(missing):
            return True
        raise
    return not found or found[0] in states


def _instance_gone(account: Account, identity: str) -> bool:
    return _state_gone(
        account,
        lambda ec2: [
            instance["State"]["Name"]
            for reservation in ec2.describe_instances(InstanceIds=[identity])["Reservations"]
            for instance in reservation["Instances"]
        ],
        "InvalidInstanceID",
        ("terminated", "shutting-down"),
    )


def _gateway_gone(account: Account, identity: str) -> bool:
    return _state_gone(
        account,
        lambda ec2: [
            gateway["State"] for gateway in ec2.describe_nat_gateways(NatGatewayIds=[identity])["NatGateways"]
        ],
        "NatGatewayNotFound",
        ("deleted", "deleting"),
    )


def _endpoint_gone(account: Account, identity: str) -> bool:
    return _state_gone(
        account,
        lambda ec2: [
            endpoint["State"] for endpoint in ec2.describe_vpc_endpoints(VpcEndpointIds=[identity])["VpcEndpoints"]
        ],
        "InvalidVpcEndpointId",
        ("deleted", "deleting"),
    )


# Resources that the tagging API lists for an hour or more after their deletion.
LINGERING: dict[tuple[str, str], Callable[[Account, str], bool]] = {
    ("kms", "key"): _key_gone,
    ("ec2", "instance"): _instance_gone,
    ("ec2", "natgateway"): _gateway_gone,
    ("ec2", "vpc-endpoint"): _endpoint_gone,
}
