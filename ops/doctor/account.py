"""Checks of the region, its zones and the service quotas of an account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from infra.airflow_names import CPU_POOL
from infra.settings import NodePoolSettings
from infra.settings.instance_families import CapacityType, QuotaClass, quota_class
from ops.aws.account import Account, aws_errors, error_code
from ops.doctor.outcome import Outcome, failed, passed, unknown, warning

# https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
ZONES_WITHOUT_EKS = ("use1-az3", "usw1-az2", "cac1-az3")
# vCPU quotas by class of instance families: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
VCPUS: Mapping[tuple[QuotaClass, CapacityType], str] = {
    ("standard", "on-demand"): "L-1216C47A",
    ("standard", "spot"): "L-34B43A08",
    ("g", "on-demand"): "L-DB2E81BA",
    ("g", "spot"): "L-3819A6DF",
    ("p", "on-demand"): "L-417A185B",
    ("p", "spot"): "L-7212CCBC",
    ("p5", "spot"): "L-C4BD4855",
    ("x", "on-demand"): "L-7295265B",
    ("x", "spot"): "L-E3A00192",
}
# The vCPUs of the smallest GPU instance; Airflow's own node needs about as many.
SMALLEST_NODE = 4
ADDRESSES, VPCS = ("ec2", "L-0263D0A3"), ("vpc", "L-F678F1CE")


def region(account: Account) -> Outcome:
    """Check that the region is enabled."""
    with aws_errors():
        found = account.client("ec2").describe_regions(RegionNames=[account.region], AllRegions=True)["Regions"]
    return judge_region(account.region, found[0]["OptInStatus"] if found else "missing")


def judge_region(name: str, status: str) -> Outcome:
    """Judge the opt-in status of a region."""
    if status in ("opt-in-not-required", "opted-in"):
        return passed(f"{name} is enabled")
    return failed(f"{name} is not enabled: run `aws account enable-region --region-name {name}`, or use another region")


def zones(account: Account, wanted: Sequence[str]) -> Outcome:
    """Check that EKS supports the zones."""
    with aws_errors():
        found = account.client("ec2").describe_availability_zones()["AvailabilityZones"]
    return judge_zones({zone["ZoneName"]: zone["ZoneId"] for zone in found}, wanted)


def judge_zones(ids: Mapping[str, str], wanted: Sequence[str]) -> Outcome:
    """Judge zones by their IDs: the same name is a different zone in each account."""
    refused = [f"{name} ({ids.get(name, 'missing')})" for name in wanted if ids.get(name) in (None, *ZONES_WITHOUT_EKS)]
    if not refused:
        return passed(", ".join(f"{name} is {ids[name]}" for name in wanted))
    others = [name for name, zone in ids.items() if zone not in ZONES_WITHOUT_EKS and name not in wanted]
    return failed(
        f"EKS has no {', '.join(refused)} in this account: set airflow:network.zones to others, such as "
        f"{', '.join(sorted(others)) or 'those of another region'}"
    )


def vcpus(account: Account, pool: str, settings: NodePoolSettings) -> Outcome:
    """Check that the account's quotas allow a node of a pool."""
    quotas = {
        (quota_class(name, kind), kind) for name in settings.instance_families for kind in settings.capacity_types
    }
    codes = {f"{kind} {name}": VCPUS[name, kind] for name, kind in quotas}
    return judge_vcpus(pool, {name: quota(account, "ec2", code) for name, code in sorted(codes.items())})


def judge_vcpus(pool: str, quotas: Mapping[str, float]) -> Outcome:
    """Judge the quotas: a pool needs one of them, because Karpenter falls back to the others."""
    text = ", ".join(f"{value:.0f} vCPUs {name}" for name, value in quotas.items())
    if max(quotas.values()) >= SMALLEST_NODE:
        return passed(f"{text} for the pool {pool}")
    remedy = f"request {SMALLEST_NODE} or more at https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
    if pool == CPU_POOL:  # where Airflow itself runs; the others start at zero nodes
        return failed(f"{text} start no node of the pool {pool}: {remedy}")
    return warning(
        f"{text} start no node of the pool {pool}, so its tasks will wait and then fail: {remedy}, or remove "
        f"airflow:node_pools.{pool} until it is granted"
    )


def addresses(account: Account, stack: str, needed: int) -> Outcome:
    """Check that the account has room for the addresses of the NAT gateways."""
    with aws_errors():
        found = account.client("ec2").describe_addresses()["Addresses"]
    return judge_room("Elastic IPs", quota(account, *ADDRESSES), found, stack, needed)


def vpcs(account: Account, stack: str) -> Outcome:
    """Check that the account has room for the VPC."""
    with aws_errors():
        found = account.client("ec2").describe_vpcs()["Vpcs"]
    return judge_room("VPCs", quota(account, *VPCS), found, stack, 1)


def judge_room(what: str, quota: float, found: Sequence[Mapping[str, Any]], stack: str, needed: int) -> Outcome:
    """Judge whether a quota has room for a stack, whose own resources count if they exist."""
    own = sum({"Key": "stack", "Value": stack} in each.get("Tags", ()) for each in found)
    text = f"{len(found)} of {quota:.0f} {what} are used, and {stack} needs {max(needed - own, 0)} more"
    if len(found) + max(needed - own, 0) <= quota:
        return passed(text)
    return failed(f"{text}: release some, or request an increase at https://console.aws.amazon.com/servicequotas")


def quota(account: Account, service: str, code: str) -> float:
    """Return an applied quota, else AWS' default.

    Raises:
        OperationError: AWS refused the request.
    """
    with aws_errors():
        client = account.client("service-quotas")
        try:
            found = client.get_service_quota(ServiceCode=service, QuotaCode=code)
        except ClientError as error:
            if error_code(error) != "NoSuchResourceException":
                raise
            found = client.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)
    return float(found["Quota"]["Value"])


def credentials(account: Account, expected: str | None) -> Outcome:
    """Describe the credentials, whose account was checked when they were read."""
    hint = "" if expected else "; set airflow:account_id to refuse any other account"
    return passed(f"{account.arn}{hint}")


def without_credentials() -> Outcome:
    """Return the outcome of checks that need credentials."""
    return unknown("needs working credentials")
