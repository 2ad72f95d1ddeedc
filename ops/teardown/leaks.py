"""Delete what a cluster created in AWS and left behind: once the cluster is deleted, nothing else deletes it.

Network interfaces, load balancers and security groups also block the deletion of the subnets and the VPC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.names import Limit, Names
from infra.errors import OperationError
from ops.aws.account import Account, aws_errors
from ops.aws.eks_cluster import describe
from ops.console import Echo

# EKS Auto Mode sets this tag on the instances, volumes, network interfaces and load balancers that it creates:
# https://docs.aws.amazon.com/eks/latest/userguide/tag-subnets-auto.html
CLUSTER_TAG = "eks:eks-cluster-name"
# Set on the volumes that the cluster would have kept, so that they are not taken for leaks.
KEEP_TAG = "airflow:keep"
TIMEOUT_SECONDS = 600
POLL_INTERVAL_SECONDS = 5


@dataclass(frozen=True)
class Leak:
    """A resource that a deleted cluster left."""

    name: str
    delete: Callable[[], Any]


@dataclass(frozen=True)
class Leaks:
    """The leaks of one stack."""

    account: Account
    names: Names
    echo: Echo

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.names.of("cluster", Limit.CLUSTER)

    def watch(self) -> None:
        """Begin to delete the leaks if the cluster is gone. Pulumi deletes the network at the same time."""
        with suppress(OperationError):
            self._delete()

    def delete(self) -> None:
        """Delete all leaks.

        Raises:
            OperationError: AWS refused a request, or leaks are left after ten minutes.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while left := self._delete():
            if time.monotonic() > deadline:
                raise OperationError(
                    f"the cluster left {', '.join(left)}, and AWS does not delete them: find out what uses them in the "
                    "AWS console, then rerun this command"
                )
            time.sleep(POLL_INTERVAL_SECONDS)

    def _delete(self) -> list[str]:
        """Delete the leaks that can be deleted now; return all of them."""
        with aws_errors():
            if describe(self.account, self.cluster):
                return []
            leaks = list(self._found())
            for leak in leaks:
                with suppress(ClientError):  # another one still uses it
                    leak.delete()
                    self.echo(f"deleted {leak.name}, which the cluster left")
        return [leak.name for leak in leaks]

    def _found(self) -> Iterator[Leak]:
        ec2 = self.account.client("ec2")
        vpcs = ec2.describe_vpcs(Filters=_filters({"tag:Name": self.names.of("vpc", Limit.TAG)}))["Vpcs"]
        yield from self._instances(ec2)
        for vpc in vpcs:
            yield from self._load_balancers(vpc["VpcId"])
            yield from self._interfaces(ec2, vpc["VpcId"])
            yield from self._security_groups(ec2, vpc["VpcId"])
        yield from self._volumes(ec2)

    def _instances(self, ec2: Any) -> Iterator[Leak]:
        states = "pending,running,stopping,stopped"
        filters = _filters({f"tag:{CLUSTER_TAG}": self.cluster, "instance-state-name": states})
        for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for instance in (each for reservation in page["Reservations"] for each in reservation["Instances"]):
                identity = instance["InstanceId"]
                yield Leak(f"the node {identity}", partial(ec2.terminate_instances, InstanceIds=[identity]))

    def _load_balancers(self, vpc: str) -> Iterator[Leak]:
        elb = self.account.client("elbv2")
        for page in elb.get_paginator("describe_load_balancers").paginate():
            for balancer in page["LoadBalancers"]:
                if balancer["VpcId"] == vpc:
                    arn = balancer["LoadBalancerArn"]
                    yield Leak(
                        f"the load balancer {balancer['LoadBalancerName']}",
                        partial(elb.delete_load_balancer, LoadBalancerArn=arn),
                    )
        for page in elb.get_paginator("describe_target_groups").paginate():
            for group in page["TargetGroups"]:
                if group.get("VpcId") == vpc:
                    arn = group["TargetGroupArn"]
                    yield Leak(
                        f"the target group {group['TargetGroupName']}",
                        partial(elb.delete_target_group, TargetGroupArn=arn),
                    )

    def _interfaces(self, ec2: Any, vpc: str) -> Iterator[Leak]:
        filters = _filters({"vpc-id": vpc, "status": "available"})
        for page in ec2.get_paginator("describe_network_interfaces").paginate(Filters=filters):
            for interface in page["NetworkInterfaces"]:
                identity = interface["NetworkInterfaceId"]
                delete = partial(ec2.delete_network_interface, NetworkInterfaceId=identity)
                yield Leak(f"the network interface {identity}", delete)

    def _security_groups(self, ec2: Any, vpc: str) -> Iterator[Leak]:
        filters = _filters({"vpc-id": vpc, f"tag:{CLUSTER_TAG}": self.cluster})
        for page in ec2.get_paginator("describe_security_groups").paginate(Filters=filters):
            for group in page["SecurityGroups"]:
                identity = group["GroupId"]
                delete = partial(ec2.delete_security_group, GroupId=identity)
                yield Leak(f"the security group {identity}", delete)

    def _volumes(self, ec2: Any) -> Iterator[Leak]:
        filters = _filters({f"tag:{CLUSTER_TAG}": self.cluster})
        for page in ec2.get_paginator("describe_volumes").paginate(Filters=filters):
            for volume in page["Volumes"]:
                identity = volume["VolumeId"]
                if KEEP_TAG not in {tag["Key"] for tag in volume["Tags"]}:
                    yield Leak(f"the volume {identity}", partial(ec2.delete_volume, VolumeId=identity))


def _filters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"Name": name, "Values": value.split(",")} for name, value in values.items()]
