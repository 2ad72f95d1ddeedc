"""The VPC: public subnets for load balancers and NAT, private ones for nodes, pods and the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_aws as aws

from infra.aws.account import Account
from infra.aws.names import Limit
from infra.aws.policies import Statement, document, this_account, trust
from infra.settings import NetworkSettings

HTTPS = 443


@dataclass(frozen=True)
class ZonePlan:
    """The subnets of one availability zone."""

    zone: str
    public: IPv4Network
    private: IPv4Network


def plan_subnets(cidr: IPv4Network, zones: Sequence[str]) -> list[ZonePlan]:
    """Divide a VPC: one quarter for each zone's private subnet, 1/16 of the last quarter for each public subnet.

    The subnets of a zone are the same with two zones as with three, so that a third can be added later.
    """
    quarters = list(cidr.subnets(prefixlen_diff=2))
    sixteenths = list(quarters[-1].subnets(prefixlen_diff=4))
    return [ZonePlan(zone, sixteenths[index], quarters[index]) for index, zone in enumerate(zones)]


class Network(pulumi.ComponentResource):
    """The network of a stack.

    Attributes:
        vpc_id: The ID of the VPC.
        public_subnet_ids: The subnets of load balancers and NAT gateways, one per zone.
        private_subnet_ids: The subnets of nodes, pods and the database, one per zone.
        nat_gateway_ids: The NAT gateways, by zone.
    """

    vpc_id: pulumi.Output[str]
    public_subnet_ids: list[pulumi.Output[str]]
    private_subnet_ids: list[pulumi.Output[str]]
    nat_gateway_ids: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        settings: NetworkSettings,
        account: Account,
        key_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the network; `key_arn` encrypts its logs."""
        super().__init__("airflow:aws:Network", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._settings = settings
        self._account = account

        plans = plan_subnets(settings.cidr, settings.zones)
        self._vpc = self._create_vpc()
        public = self._create_public_subnets(plans)
        gateways = self._create_nat_gateways(public)
        private, route_tables = self._create_private_subnets(plans, gateways)
        self._create_endpoints(private, route_tables)
        if settings.flow_log_days is not None:
            self._create_flow_log(settings.flow_log_days, key_arn)

        self.vpc_id = self._vpc.id
        self.public_subnet_ids = [subnet.id for subnet in public]
        self.private_subnet_ids = [subnet.id for subnet in private]
        self.nat_gateway_ids = dict(zip(settings.zones, (gateway.id for gateway in gateways), strict=False))
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids,
            }
        )

    def _create_vpc(self) -> aws.ec2.Vpc:
        vpc = aws.ec2.Vpc(
            "vpc",
            cidr_block=str(self._settings.cidr),
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=self._named("vpc"),
            opts=self._child_opts,
        )
        # Without rules, so that resources without their own security group have no network access.
        aws.ec2.DefaultSecurityGroup(
            "default-security-group",
            vpc_id=vpc.id,
            ingress=[],
            egress=[],
            tags=self._named("default"),
            opts=self._child_opts,
        )
        return vpc

    def _create_public_subnets(self, plans: Sequence[ZonePlan]) -> list[aws.ec2.Subnet]:
        gateway = aws.ec2.InternetGateway(
            "internet-gateway", vpc_id=self._vpc.id, tags=self._named("internet"), opts=self._child_opts
        )
        table = aws.ec2.RouteTable(
            "public-routes", vpc_id=self._vpc.id, tags=self._named("public"), opts=self._child_opts
        )
        self._internet_route = aws.ec2.Route(
            "public-internet-route",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=self._child_opts,
        )
        # EKS selects the subnets of load balancers by these tags:
        # https://docs.aws.amazon.com/eks/latest/userguide/auto-configure-alb.html
        return [
            self._create_subnet("public", plan.zone, plan.public, table, {"kubernetes.io/role/elb": "1"})
            for plan in plans
        ]

    def _create_nat_gateways(self, public: Sequence[aws.ec2.Subnet]) -> list[aws.ec2.NatGateway]:
        count = 1 if self._settings.nat_gateways == "one" else len(public)
        gateways = []
        for zone, subnet in list(zip(self._settings.zones, public, strict=True))[:count]:
            address = aws.ec2.Eip(
                f"nat-address-{zone}", domain="vpc", tags=self._named(f"nat-{zone}"), opts=self._child_opts
            )
            gateways.append(
                aws.ec2.NatGateway(
                    f"nat-gateway-{zone}",
                    allocation_id=address.id,
                    subnet_id=subnet.id,
                    tags=self._named(zone),
                    opts=pulumi.ResourceOptions.merge(
                        self._child_opts, pulumi.ResourceOptions(depends_on=[self._internet_route])
                    ),
                )
            )
        return gateways

    def _create_private_subnets(
        self, plans: Sequence[ZonePlan], gateways: Sequence[aws.ec2.NatGateway]
    ) -> tuple[list[aws.ec2.Subnet], list[aws.ec2.RouteTable]]:
        subnets, tables = [], []
        for index, plan in enumerate(plans):
            table = aws.ec2.RouteTable(
                f"private-routes-{plan.zone}",
                vpc_id=self._vpc.id,
                tags=self._named(f"private-{plan.zone}"),
                opts=self._child_opts,
            )
            aws.ec2.Route(
                f"private-internet-route-{plan.zone}",
                route_table_id=table.id,
                destination_cidr_block="0.0.0.0/0",
                nat_gateway_id=gateways[index % len(gateways)].id,
                opts=self._child_opts,
            )
            subnets.append(
                self._create_subnet("private", plan.zone, plan.private, table, {"kubernetes.io/role/internal-elb": "1"})
            )
            tables.append(table)
        return subnets, tables

    def _create_subnet(
        self, kind: str, zone: str, cidr: IPv4Network, table: aws.ec2.RouteTable, tags: dict[str, str]
    ) -> aws.ec2.Subnet:
        subnet = aws.ec2.Subnet(
            f"{kind}-{zone}",
            vpc_id=self._vpc.id,
            availability_zone=zone,
            cidr_block=str(cidr),
            map_public_ip_on_launch=False,
            tags={**self._named(f"{kind}-{zone}"), **tags},
            opts=self._child_opts,
        )
        aws.ec2.RouteTableAssociation(
            f"{kind}-{zone}-routes", subnet_id=subnet.id, route_table_id=table.id, opts=self._child_opts
        )
        return subnet

    def _create_endpoints(self, private: Sequence[aws.ec2.Subnet], tables: Sequence[aws.ec2.RouteTable]) -> None:
        # Free; otherwise traffic to and from S3 passes the NAT gateway, which charges for it.
        aws.ec2.VpcEndpoint(
            "s3-endpoint",
            vpc_id=self._vpc.id,
            service_name=f"com.amazonaws.{self._account.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            tags=self._named("s3"),
            opts=self._child_opts,
        )
        if not self._settings.interface_endpoints:
            return
        group = aws.ec2.SecurityGroup(
            "endpoints-security-group",
            name=self._account.names.of("endpoints", Limit.SECURITY_GROUP),
            description="AWS services as seen from the VPC",
            vpc_id=self._vpc.id,
            tags=self._named("endpoints"),
            opts=self._child_opts,
        )
        aws.vpc.SecurityGroupIngressRule(
            "endpoints-from-vpc",
            security_group_id=group.id,
            description="HTTPS from the VPC",
            cidr_ipv4=str(self._settings.cidr),
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            opts=self._child_opts,
        )
        for service in self._settings.interface_endpoints:
            aws.ec2.VpcEndpoint(
                f"{service.replace('.', '-')}-endpoint",
                vpc_id=self._vpc.id,
                service_name=f"com.amazonaws.{self._account.region}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=[subnet.id for subnet in private],
                security_group_ids=[group.id],
                tags=self._named(service),
                opts=self._child_opts,
            )

    def _create_flow_log(self, days: int, key_arn: pulumi.Input[str]) -> None:
        names = self._account.names
        group = aws.cloudwatch.LogGroup(
            "flow-log-group",
            name=f"/aws/vpc/{names.of('flow-log', Limit.LOG_GROUP)}",
            retention_in_days=days,
            kms_key_id=key_arn,
            opts=self._child_opts,
        )
        role = aws.iam.Role(
            "flow-log-role",
            name=names.of("flow-log", Limit.ROLE),
            assume_role_policy=self._account.id.apply(
                lambda account: trust("vpc-flow-logs.amazonaws.com", conditions=this_account(account))
            ),
            permissions_boundary=self._account.permissions_boundary,
            opts=self._child_opts,
        )
        policy = aws.iam.RolePolicy(
            "flow-log-policy", role=role.name, policy=group.arn.apply(flow_log_policy), opts=self._child_opts
        )
        aws.ec2.FlowLog(
            "flow-log",
            vpc_id=self._vpc.id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            tags=self._named("flow-log"),
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(depends_on=[policy])),
        )

    def _named(self, purpose: str) -> dict[str, str]:
        return {"Name": self._account.names.of(purpose, Limit.TAG)}


def flow_log_policy(group_arn: str) -> str:
    """Return the policy for the VPC to write to its log group."""
    return document(
        Statement(
            ("logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            (f"{group_arn}:*",),
        )
    )
