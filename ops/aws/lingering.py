"""Recognize deleted resources that AWS still lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from ops.aws.account import Account, error_code


def gone(account: Account, service: str, kind: str, identity: str) -> bool:
    """Return whether a resource that AWS still lists is deleted or scheduled for deletion."""
    check = LINGERING.get((service, kind))
    return check is not None and check(account, identity)


def _key_gone(account: Account, key: str) -> bool:
    return str(account.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"]) == "PendingDeletion"


def _secret_gone(account: Account, name: str) -> bool:
    without_suffix = name.rpartition("-")[0]  # the ARN ends with six random characters
    return "DeletedDate" in account.client("secretsmanager").describe_secret(SecretId=without_suffix)


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
    ("secretsmanager", "secret"): _secret_gone,
    ("ec2", "instance"): _instance_gone,
    ("ec2", "natgateway"): _gateway_gone,
    ("ec2", "vpc-endpoint"): _endpoint_gone,
}
