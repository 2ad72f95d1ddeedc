"""The monthly cost of a recorded stack: one charge per item on the AWS bill.

Every resource type either has a rule here or is listed as free. Any other type is an error, so that no cost is omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infra.airflow_names import CPU_POOL, GPU_RESOURCE
from infra.errors import OperationError
from ops.plan.prices import Instance, Price, Prices
from ops.plan.resources import STACK_TYPE, Recording, Resource
from ops.plan.usage import Amount, Bucket, PoolUsage, Size, Usage

HOURS = 730  # per month, as in the AWS Pricing Calculator: https://aws.amazon.com/calculator/calculator-assumptions/
DAYS = 30
NODE_POOL_TYPE = "kubernetes:karpenter.sh/v1:NodePool"
# Included in the price of every gp3 disk: https://aws.amazon.com/ebs/pricing/
FREE_IOPS = 3000
FREE_THROUGHPUT = 125
ALWAYS = Amount(idle=1, load=1)

# The free retention of Performance Insights: https://aws.amazon.com/rds/performance-insights/pricing/
FREE_INSIGHTS_DAYS = 7

# The usage of the log groups below /aws/<service>/.
LOG_AMOUNTS = {"eks": "control_plane_log_gb", "vpc": "flow_log_gb", "rds": "database_log_gb"}


@dataclass(frozen=True)
class Charge:
    """One line of the bill.

    Attributes:
        urn: The URN of the charged resource.
        resource: The resource's logical name.
        what: The billed item.
        price: The price of one unit.
        quantity: Units per month, idle and at the stated load.
        basis: How the quantity is derived.
    """

    urn: str
    resource: str
    what: str
    price: Price
    quantity: Amount
    basis: str

    @property
    def idle(self) -> float:
        """US dollars per month for an idle stack."""
        return self.price.usd * self.quantity.idle

    @property
    def load(self) -> float:
        """US dollars per month at the stated load."""
        return self.price.usd * self.quantity.load


@dataclass(frozen=True)
class Disk:
    """A gp3 disk: its size, and its IOPS and throughput beyond the free ones."""

    gib: float
    more_iops: float
    more_throughput: float


@dataclass(frozen=True)
class Month:
    """The input of the rules."""

    recording: Recording
    prices: Prices
    usage: Usage

    def amount(self, name: str) -> Amount:
        """Return an amount from usage.yaml."""
        return self.usage.amounts[name]

    def always(self, price: str, count: float, what: str, basis: str) -> tuple[str, Price, Amount, str]:
        """Return a charge for something that exists all month, whether it is used or not."""
        return what, self.prices.service(price), ALWAYS * count, basis


Rule = Callable[[Resource, Month], Iterator[tuple[str, Price, Amount, str]]]


def charges(recording: Recording, prices: Prices, usage: Usage) -> list[Charge]:
    """Return the lines of the bill, the most expensive first.

    Raises:
        OperationError: A resource type has no rule and is not listed as free, or a price is missing.
    """
    month = Month(recording, prices, usage)
    found = [
        Charge(resource.urn, resource.name, what, price, quantity, basis)
        for resource in recording.resources
        for what, price, quantity, basis in rule_of(resource)(resource, month)
    ]
    return sorted(found, key=lambda charge: (-charge.idle, -charge.load, charge.resource, charge.what))


def rule_of(resource: Resource) -> Rule:
    """Return the rule that charges a resource.

    Raises:
        OperationError: Its type has no rule and is not listed as free.
    """
    if resource.type in RULES:
        return RULES[resource.type]
    package = resource.type.split(":", maxsplit=1)[0]
    if not resource.custom or package in FREE_PACKAGES or resource.type in FREE:
        return _free
    raise OperationError(
        f"{resource.type} ({resource.name}) has no rule and is not listed as free: add a rule, or add it to FREE, in "
        "ops/plan/cost.py"
    )


def total(lines: Sequence[Charge]) -> Amount:
    """Return the sum in US dollars per month."""
    return Amount(idle=sum(line.idle for line in lines), load=sum(line.load for line in lines))


def _free(_resource: Resource, _month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield from ()


def _stack(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield month.always("kms_key", 1, "key for Pulumi's secrets", "1 key, created by `make bootstrap`")


def _cluster(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield month.always("eks_cluster", HOURS, "Kubernetes control plane", f"1 cluster x {HOURS} h")


def _nat_gateway(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    gateways = len(month.recording.of_type("aws:ec2/natGateway:NatGateway"))
    yield month.always("nat_gateway", HOURS, "NAT gateway", f"1 gateway x {HOURS} h")
    share = "" if gateways == 1 else f", split across {gateways} gateways"
    gigabytes = month.amount("nat_gb") * (1 / gateways)
    yield (
        "data through NAT",
        month.prices.service("nat_gateway_data"),
        gigabytes,
        f"{month.amount('nat_gb').text}{share}",
    )


def _address(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield month.always("public_ipv4", HOURS, "public IPv4 address", f"1 address x {HOURS} h")


def _endpoint(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    if resource.inputs["vpcEndpointType"] != "Interface":
        return
    zones = len(resource.inputs["subnetIds"])
    yield month.always("interface_endpoint", zones * HOURS, "interface endpoint", f"{zones} zones x {HOURS} h")
    yield (
        "data through the endpoint",
        month.prices.service("interface_endpoint_data"),
        month.amount("endpoint_gb"),
        month.amount("endpoint_gb").text,
    )


def _database(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    inputs = resource.inputs
    insights_days = inputs.get("performanceInsightsRetentionPeriod", FREE_INSIGHTS_DAYS)
    if insights_days > FREE_INSIGHTS_DAYS or inputs.get("databaseInsightsMode") == "advanced":
        raise OperationError(
            f"{resource.name} keeps Performance Insights for {insights_days} days, for which prices.yaml has no price: "
            f"set {FREE_INSIGHTS_DAYS} days, or add the price and a rule in ops/plan/cost.py"
        )
    if inputs["storageType"] != "gp3":
        raise OperationError(
            f"{resource.name} has storage of type {inputs['storageType']}, for which prices.yaml has no price: use gp3"
        )
    copies = 2 if inputs.get("multiAz") else 1
    zones = "2 zones" if copies == 2 else "1 zone"
    class_, size = inputs["instanceClass"], inputs["allocatedStorage"]
    yield f"PostgreSQL on {class_}", month.prices.database(class_), ALWAYS * copies * HOURS, f"{zones} x {HOURS} h"
    yield month.always("rds_gp3", copies * size, "database storage", f"{zones} x {size} GiB")
    if inputs.get("monitoringInterval"):
        metrics = month.amount("database_metrics_gb")
        yield "enhanced monitoring", month.prices.service("log_ingestion"), metrics, metrics.text


def _bucket(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    stated = _stated_bucket(resource, month.usage)
    yield "objects", month.prices.service("s3_standard"), stated.gb, "GB in the bucket, all in S3 Standard"
    yield "writes", month.prices.service("s3_writes"), stated.writes, "thousand PUT, POST and LIST requests"
    yield "reads", month.prices.service("s3_reads"), stated.reads, "thousand GET requests"


def _stated_bucket(resource: Resource, usage: Usage) -> Bucket:
    """Return the usage of a bucket, by the longest purpose that its name contains."""
    purposes = [purpose for purpose in usage.buckets if purpose in resource.name]
    if not purposes:
        raise OperationError(f"usage.yaml has no usage of the bucket {resource.name}: add it under buckets")
    return usage.buckets[max(purposes, key=len)]


def _log_group(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    service = resource.inputs["name"].split("/")[2]
    amount = month.amount(LOG_AMOUNTS[service])
    months = resource.inputs["retentionInDays"] / DAYS
    yield "log ingestion", month.prices.service("log_ingestion"), amount, amount.text
    yield (
        "stored logs",
        month.prices.service("log_storage"),
        amount * months,
        f"kept for {resource.inputs['retentionInDays']} days",
    )


def _key(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    requests = month.amount("kms_requests")
    yield month.always("kms_key", 1, "KMS key", "1 key; each of its first two yearly rotations adds the same amount")
    yield "requests to the key", month.prices.service("kms_requests"), requests, requests.text


def _alarm(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield month.always("alarm_metric", 1, "alarm", "1 alarm on 1 metric")


def _secret(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield month.always("secret", 1, "stored secret", "1 secret")


def _repository(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    images = month.amount("image_gb")
    yield "images", month.prices.service("ecr_storage"), images, images.text


def _node_pool(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    """Charge a pool's nodes: those for tasks and, in the pool `cpu`, those for Airflow's services."""
    usage = usage_of(resource, month.usage)
    if pool_name(resource) == CPU_POOL:
        services = month.usage.services_of(month.recording.stack)
        plural = "node" if services.nodes == 1 else "nodes"
        basis = f"{services.nodes} {plural} for Airflow's services x {HOURS} h"
        yield from _nodes(resource, month, services, ALWAYS * services.nodes * HOURS, basis)
    basis = f"{usage.task_hours.text}, one task per node"
    yield from _nodes(resource, month, usage.task, usage.task_hours, basis)


def _nodes(
    pool: Resource, month: Month, pods: Size, hours: Amount, basis: str
) -> Iterator[tuple[str, Price, Amount, str]]:
    instance = instance_for(pool, month.prices, month.usage.node_overhead.node_for(pods), gpus=int(has_gpus(pool)))
    disk = disk_of(pool, month.recording)
    yield f"{instance.type} {capacity_type(pool)}", capacity_price(instance, pool, month.usage), hours, basis
    fee = month.prices.instances.auto_mode_fee
    surcharge = month.prices.auto_mode(instance)
    yield f"EKS Auto Mode for {instance.type}", surcharge, hours, f"{fee.share:.0%} of On-Demand x the same hours"
    months = hours * (1 / HOURS)
    for what, price, units, unit in (
        ("disk", "ebs_gp3", disk.gib, "GiB"),
        ("faster disk", "ebs_gp3_iops", disk.more_iops, f"IOPS beyond {FREE_IOPS}"),
        ("faster disk", "ebs_gp3_throughput", disk.more_throughput, f"MiB/s beyond {FREE_THROUGHPUT}"),
    ):
        if units:
            basis = f"{units:g} {unit} for the same hours"
            yield f"{what} of {instance.type}", month.prices.service(price), months * units, basis


def instance_for(pool: Resource, prices: Prices, size: Size, gpus: int) -> Instance:
    """Return the cheapest instance of a pool with at least this size and this many GPUs."""
    families, sizes = requirement(pool, "instance-family"), requirement(pool, "instance-size", [])
    return prices.cheapest_instance(families, size.vcpu, size.memory_gib, gpus, sizes)


def capacity_type(pool: Resource) -> str:
    """Return the EC2 capacity type that Karpenter tries first."""
    return "Spot" if "spot" in requirement(pool, "capacity-type") else "On-Demand"


def capacity_price(instance: Instance, pool: Resource, usage: Usage) -> Price:
    """Return the price of one hour of an instance of a pool."""
    if capacity_type(pool) == "On-Demand":
        return instance.price
    return instance.price.model_copy(update={"usd": instance.price.usd * usage.spot_share})


def pool_name(pool: Resource) -> str:
    """Return the name of a node pool."""
    return str(pool.inputs["metadata"]["name"])


def usage_of(pool: Resource, usage: Usage) -> PoolUsage:
    """Return the usage of a node pool.

    Raises:
        OperationError: The file states none.
    """
    name = pool_name(pool)
    if name not in usage.node_pools:
        raise OperationError(f"usage.yaml has no usage of the node pool {name}: add it under node_pools")
    return usage.node_pools[name]


def has_gpus(pool: Resource) -> bool:
    """Return whether a node pool is for pods that request a GPU."""
    taints = pool.inputs["spec"]["template"]["spec"].get("taints", [])
    return any(taint["key"] == GPU_RESOURCE for taint in taints)


def requirement(pool: Resource, name: str, default: list[str] | None = None) -> list[str]:
    """Return the values that a node pool allows for a label such as `instance-family`, with any prefix.

    Raises:
        OperationError: The node pool has no requirement for this label, and there is no default.
    """
    for item in pool.inputs["spec"]["template"]["spec"]["requirements"]:
        if item["key"].split("/")[-1] == name and item["operator"] == "In":
            return list(item["values"])
    if default is not None:
        return default
    raise OperationError(
        f"the node pool {pool.name} has no requirement for {name}, so its cost is unknown: add the requirement"
    )


def disk_of(pool: Resource, recording: Recording) -> Disk:
    """Return the disk of each node, from the pool's NodeClass.

    Raises:
        OperationError: The NodeClass does not exist.
    """
    wanted = pool.inputs["spec"]["template"]["spec"]["nodeClassRef"]["name"]
    for node_class in recording.of_type("kubernetes:eks.amazonaws.com/v1:NodeClass"):
        if node_class.inputs["metadata"]["name"] == wanted:
            storage = node_class.inputs["spec"]["ephemeralStorage"]
            return Disk(
                gib=float(str(storage["size"]).removesuffix("Gi")),
                more_iops=storage.get("iops", FREE_IOPS) - FREE_IOPS,
                more_throughput=storage.get("throughput", FREE_THROUGHPUT) - FREE_THROUGHPUT,
            )
    raise OperationError(
        f"the node pool {pool.name} refers to the NodeClass {wanted}, which does not exist: add it, or correct the name"
    )


def _service(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    if _spec(resource).get("type") == "LoadBalancer":
        yield month.always(
            "load_balancer", HOURS, "load balancer", f"1 load balancer x {HOURS} h, without its capacity units"
        )


def _ingress(_resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    yield month.always(
        "load_balancer", HOURS, "load balancer", f"1 load balancer x {HOURS} h, without its capacity units"
    )


def _volume(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    size = float(_spec(resource)["resources"]["requests"]["storage"].removesuffix("Gi"))
    yield month.always("ebs_gp3", size, "volume", f"{size:g} GiB")


def _volumes(resource: Resource, month: Month) -> Iterator[tuple[str, Price, Amount, str]]:
    for template in _spec(resource).get("volumeClaimTemplates", []):
        size = float(template["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
        count = _spec(resource).get("replicas", 1)
        yield month.always("ebs_gp3", count * size, "volumes", f"{count} x {size:g} GiB")


def _spec(resource: Resource) -> dict[str, Any]:
    return dict(resource.inputs.get("spec", {}))


RULES: dict[str, Rule] = {
    STACK_TYPE: _stack,
    "aws:cloudwatch/logGroup:LogGroup": _log_group,
    "aws:cloudwatch/metricAlarm:MetricAlarm": _alarm,
    "aws:ec2/eip:Eip": _address,
    "aws:ec2/natGateway:NatGateway": _nat_gateway,
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:ecr/repository:Repository": _repository,
    "aws:eks/cluster:Cluster": _cluster,
    "aws:kms/key:Key": _key,
    "aws:rds/instance:Instance": _database,
    "aws:s3/bucket:Bucket": _bucket,
    "aws:secretsmanager/secret:Secret": _secret,
    "kubernetes:apps/v1:StatefulSet": _volumes,
    "kubernetes:core/v1:PersistentVolumeClaim": _volume,
    "kubernetes:core/v1:Service": _service,
    NODE_POOL_TYPE: _node_pool,
    "kubernetes:networking.k8s.io/v1:Ingress": _ingress,
}

# Packages whose other resources AWS does not charge: Kubernetes objects and generated passwords.
FREE_PACKAGES = frozenset({"kubernetes", "pulumi", "random"})

# AWS does not charge for these resources, only for their effects, such as traffic and storage.
FREE = frozenset(
    {
        # https://aws.amazon.com/aws-cost-management/aws-budgets/pricing/
        "aws:budgets/budget:Budget",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/flowLog:FlowLog",
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/route:Route",
        "aws:ec2/routeTable:RouteTable",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/vpc:Vpc",
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "aws:eks/accessEntry:AccessEntry",
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "aws:iam/policy:Policy",
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        "aws:kms/alias:Alias",
        "aws:rds/parameterGroup:ParameterGroup",
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "aws:s3/bucketLogging:BucketLogging",
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "aws:s3/bucketVersioning:BucketVersioning",
        "aws:secretsmanager/secretVersion:SecretVersion",
        # A thousand mails a month are free: https://aws.amazon.com/sns/pricing/
        "aws:sns/topic:Topic",
        "aws:sns/topicPolicy:TopicPolicy",
        "aws:sns/topicSubscription:TopicSubscription",
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    }
)
