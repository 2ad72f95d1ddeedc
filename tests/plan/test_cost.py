from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from infra.errors import OperationError
from ops.plan.cost import FREE, RULES, Charge, charges, total
from ops.plan.plan import plan_of
from ops.plan.prices import FILE, Prices, priced_regions, prices_of
from ops.plan.resources import Recording, Resource
from ops.plan.usage import Amount, PoolUsage, Size, stated_usage
from tests.recordings import recorded

STACK = Resource(urn="stack", type="pulumi:pulumi:Stack", name="airflow-dev", inputs={}, custom=False)


@pytest.fixture(scope="module")
def prices() -> Prices:
    found = prices_of("us-east-1")
    assert found
    return found


def resource(type_: str, name: str = "it", **inputs: object) -> Resource:
    return Resource(urn=name, type=type_, name=name, inputs=inputs, parent="stack")


def of(*resources: Resource, stack: str = "dev") -> Recording:
    return Recording("airflow", stack, "us-east-1", (STACK, *resources))


def bill(prices: Prices, *resources: Resource, stack: str = "dev") -> dict[str, Charge]:
    lines = charges(of(*resources, stack=stack), prices, stated_usage())
    return {line.what: line for line in lines if line.urn != "stack"}


def pool(name: str, capacity: list[str], families: list[str], sizes: Sequence[str] = ()) -> tuple[Resource, Resource]:
    requirements = [
        {"key": "eks.amazonaws.com/instance-family", "operator": "In", "values": families},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": capacity},
    ]
    if sizes:
        requirements.append({"key": "eks.amazonaws.com/instance-size", "operator": "In", "values": list(sizes)})
    template = {"nodeClassRef": {"name": "nodes"}, "requirements": requirements}
    spec = {"template": {"spec": template}}
    return (
        resource("kubernetes:karpenter.sh/v1:NodePool", name, metadata={"name": name}, spec=spec),
        resource(
            "kubernetes:eks.amazonaws.com/v1:NodeClass",
            "class",
            metadata={"name": "nodes"},
            spec={"ephemeralStorage": {"size": "73Gi"}},
        ),
    )


def test_the_cost_of_a_small_stack_matches_a_manual_calculation(prices: Prices) -> None:
    lines = charges(
        of(
            resource("aws:eks/cluster:Cluster", "cluster"),  # 730 h x 0.10 = 73.00
            resource("aws:ec2/natGateway:NatGateway", "nat"),  # 730 h x 0.045 = 32.85, and 10 or 200 GB x 0.045
            resource("aws:ec2/eip:Eip", "address"),  # 730 h x 0.005 = 3.65
            resource(  # 730 h x 0.016 = 11.68, and 20 GiB x 0.115 = 2.30
                "aws:rds/instance:Instance",
                "database",
                instanceClass="db.t4g.micro",
                allocatedStorage=20,
                storageType="gp3",
            ),
            resource("aws:ec2/vpc:Vpc", "vpc"),
        ),
        prices,
        stated_usage(),
    )
    # With the key for Pulumi's secrets, 1.00.
    assert total(lines).idle == pytest.approx(73.00 + 32.85 + 0.45 + 3.65 + 11.68 + 2.30 + 1.00)
    assert total(lines).load == pytest.approx(73.00 + 32.85 + 9.00 + 3.65 + 11.68 + 2.30 + 1.00)
    assert lines[0].what == "Kubernetes control plane"


def test_a_database_in_two_zones_costs_twice_as_much(prices: Prices) -> None:
    server = resource(
        "aws:rds/instance:Instance", instanceClass="db.m7g.large", allocatedStorage=100, storageType="gp3", multiAz=True
    )
    lines = bill(prices, server)
    assert lines["PostgreSQL on db.m7g.large"].idle == pytest.approx(2 * 730 * 0.168)
    assert lines["database storage"].idle == pytest.approx(2 * 100 * 0.115)


def test_an_interface_endpoint_is_charged_per_zone_and_a_gateway_endpoint_is_free(prices: Prices) -> None:
    interface = resource("aws:ec2/vpcEndpoint:VpcEndpoint", vpcEndpointType="Interface", subnetIds=["a", "b", "c"])
    assert bill(prices, interface)["interface endpoint"].idle == pytest.approx(3 * 730 * 0.01)
    assert not bill(prices, resource("aws:ec2/vpcEndpoint:VpcEndpoint", vpcEndpointType="Gateway"))


def test_traffic_is_shared_by_the_nat_gateways(prices: Prices) -> None:
    gateways = [resource("aws:ec2/natGateway:NatGateway", name) for name in "abc"]
    lines = [line for line in charges(of(*gateways), prices, stated_usage()) if line.what == "data through NAT"]
    assert sum(line.load for line in lines) == pytest.approx(200 * 0.045)
    assert len(lines) == 3


def test_an_idle_gpu_pool_costs_nothing_and_a_busy_one_by_the_hour(prices: Prices) -> None:
    lines = bill(prices, *pool("gpu", ["on-demand"], ["g6", "g5"]))
    assert sum(line.idle for line in lines.values()) == 0
    assert lines["g6.xlarge On-Demand"].load == pytest.approx(40 * 0.8048)
    assert lines["EKS Auto Mode for g6.xlarge"].load == pytest.approx(40 * 0.8048 * 0.12)
    assert lines["disk of g6.xlarge"].load == pytest.approx(40 * 73 / 730 * 0.08)


def test_each_node_pool_is_billed_for_its_own_hours(prices: Prices) -> None:
    stated = stated_usage()
    large = PoolUsage(task_hours=Amount(idle=0, load=7), task=Size(vcpu=6, memory_gib=24))
    usage = stated.model_copy(update={"node_pools": {**stated.node_pools, "large": large}})
    machines = [*pool("gpu", ["on-demand"], ["g6"]), pool("large", ["on-demand"], ["g6e"], ["2xlarge"])[0]]
    lines = {line.what: line for line in charges(of(*machines), prices, usage)}
    assert lines["g6.xlarge On-Demand"].load == pytest.approx(40 * 0.8048)
    assert lines["g6e.2xlarge On-Demand"].load == pytest.approx(7 * 2.24208)
    with pytest.raises(
        OperationError, match=r"usage.yaml has no usage of the node pool large: add it under node_pools"
    ):
        charges(of(*machines), prices, stated)


def test_only_the_sizes_of_a_pool_are_charged(prices: Prices) -> None:
    assert prices.cheapest_instance(["m7a"], 1, 1, sizes=["2xlarge", "4xlarge"]).type == "m7a.2xlarge"


def test_disk_throughput_above_the_free_amount_is_charged(prices: Prices) -> None:
    machines, nodes = pool("gpu", ["on-demand"], ["g6"])
    fast = {"spec": {"ephemeralStorage": {"size": "73Gi", "iops": 4000, "throughput": 500}}}
    lines = charges(of(machines, replace(nodes, inputs={**nodes.inputs, **fast})), prices, stated_usage())
    extra = sum(line.load for line in lines if line.what == "faster disk of g6.xlarge")
    assert extra == pytest.approx(40 / 730 * (1000 * 0.005 + 375 * 0.04))


def test_airflows_services_keep_nodes_of_the_cpu_pool_busy_in_an_idle_stack(prices: Prices) -> None:
    machines = pool("cpu", ["on-demand"], ["m7a", "m6a"])
    for stack, nodes in (("dev", 1), ("prod", 3)):
        lines = charges(of(*machines, stack=stack), prices, stated_usage())
        idle = sum(line.idle for line in lines if line.what == "m6a.large On-Demand")
        assert idle == pytest.approx(nodes * 730 * 0.0864)


def test_spot_is_charged_at_the_stated_share_and_auto_mode_at_the_full_price(prices: Prices) -> None:
    lines = bill(prices, *pool("gpu", ["spot", "on-demand"], ["g6"]))
    assert lines["g6.xlarge Spot"].load == pytest.approx(40 * 0.8048 * stated_usage().spot_share)
    assert lines["EKS Auto Mode for g6.xlarge"].load == pytest.approx(40 * 0.8048 * 0.12)


def test_only_kubernetes_objects_that_create_cloud_resources_are_charged(prices: Prices) -> None:
    assert not bill(prices, resource("kubernetes:core/v1:Service", spec={"type": "ClusterIP"}))
    assert bill(prices, resource("kubernetes:core/v1:Service", spec={"type": "LoadBalancer"}))["load balancer"].idle > 0
    volumes = [{"spec": {"resources": {"requests": {"storage": "10Gi"}}}}]
    claim = resource("kubernetes:apps/v1:StatefulSet", spec={"replicas": 2, "volumeClaimTemplates": volumes})
    assert bill(prices, claim)["volumes"].idle == pytest.approx(2 * 10 * 0.08)


def test_a_type_without_a_rule_that_is_not_listed_as_free_is_an_error(prices: Prices) -> None:
    with pytest.raises(
        OperationError, match=r"aws:msk/cluster:Cluster \(kafka\) has no rule and is not listed as free: add a rule"
    ):
        bill(prices, resource("aws:msk/cluster:Cluster", "kafka"))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (resource("aws:s3/bucket:Bucket", "surprise"), "has no usage of the bucket surprise"),
        (
            resource("aws:rds/instance:Instance", instanceClass="db.x9.huge", allocatedStorage=1, storageType="gp3"),
            "has no price for db.x9.huge: add it under databases",
        ),
        (
            resource("aws:rds/instance:Instance", instanceClass="db.t4g.micro", allocatedStorage=1, storageType="io1"),
            "has storage of type io1, for which prices.yaml has no price: use gp3",
        ),
        (
            resource("aws:rds/instance:Instance", performanceInsightsRetentionPeriod=731, storageType="gp3"),
            "keeps Performance Insights for 731 days",
        ),
    ],
)
def test_a_resource_without_a_price_or_usage_is_an_error(prices: Prices, made: Resource, sentence: str) -> None:
    with pytest.raises(OperationError, match=sentence):
        bill(prices, made)


def test_the_cheapest_instance_that_fits_is_charged(prices: Prices) -> None:
    assert prices.cheapest_instance(["m7a", "m6a"], 2, 8).type == "m6a.large"
    assert prices.cheapest_instance(["m7a", "m6a"], 2, 8.1).type == "m6a.xlarge"
    assert prices.cheapest_instance(["c6a", "m6a"], 2, 4).type == "c6a.large"
    with pytest.raises(OperationError, match="no price for the family x1"):
        prices.cheapest_instance(["x1"], 1, 1)
    with pytest.raises(OperationError, match=r"no instance of m6a in prices.yaml has 500 vCPUs"):
        prices.cheapest_instance(["m6a"], 500, 1)


def test_more_gpus_than_one_need_a_larger_instance(prices: Prices) -> None:
    assert prices.cheapest_instance(["g6", "g5"], 1, 1, gpus=1).type == "g6.xlarge"
    assert prices.cheapest_instance(["g6", "g5"], 1, 1, gpus=2).type == "g6.12xlarge"
    assert prices.cheapest_instance(["g6", "g5"], 1, 1, gpus=8).type == "g6.48xlarge"
    assert prices.cheapest_instance(["p5"], 1, 1, gpus=8).memory_gib == 2048
    with pytest.raises(OperationError, match=r"no instance of m6a in prices.yaml has 1 vCPUs, 1 GiB and 1 GPUs"):
        prices.cheapest_instance(["m6a"], 1, 1, gpus=1)


def test_a_node_is_larger_than_its_pods() -> None:
    node = stated_usage().node_overhead.node_for(Size(vcpu=3, memory_gib=12))
    assert node.vcpu == pytest.approx(3.1)
    assert node.memory_gib == pytest.approx(13 / 0.925)


def test_every_resource_of_every_stack_is_charged_or_free(recording: Recording) -> None:
    assert plan_of(recording).bill.total.idle > 0


def test_no_free_type_has_a_rule() -> None:
    assert not FREE & RULES.keys()


def test_the_dev_stack_costs_under_175_dollars_idle(recordings: dict[str, Recording]) -> None:
    assert 100 < plan_of(recordings["dev"]).bill.total.idle < 175


def test_an_idle_stack_pays_for_no_gpu(recording: Recording) -> None:
    lines = [line for line in plan_of(recording).bill.lines if line.resource.startswith("gpu")]
    assert lines
    assert sum(line.idle for line in lines) == 0


def test_a_region_without_prices_is_reported(recordings: dict[str, Recording]) -> None:
    dev = recordings["dev"]
    elsewhere = plan_of(Recording(dev.project, dev.stack, "eu-central-1", dev.resources))
    assert (
        elsewhere.bill.missing == "prices.yaml has no prices for eu-central-1, only for us-east-1: costs are not shown"
    )
    assert not elsewhere.bill.lines


def test_every_price_is_positive_and_has_its_source_at_aws_and_no_impossible_date() -> None:
    for region in priced_regions():
        found = prices_of(region)
        assert found
        tables = (found.databases, found.instances, found.instances.auto_mode_fee)
        dated = [(price.source, price.as_of) for price in found.services.values()]
        for source, day in [*dated, *((table.source, table.as_of) for table in tables)]:
            assert urlparse(source).hostname == "aws.amazon.com"
            assert day is None or date(2025, 1, 1) < day <= date.today()
        amounts = [price.usd for price in found.services.values()] + list(found.databases.usd.values())
        amounts += [usd for family in found.instances.families.values() for usd in family.usd.values()]
        assert all(amount > 0 for amount in amounts)


def test_every_price_of_a_service_is_used() -> None:
    rules = "".join((Path(FILE).parent / name).read_text() for name in ("cost.py", "short_tasks.py"))
    unused = [name for name in yaml.safe_load(FILE.read_text())["us-east-1"]["services"] if f'"{name}"' not in rules]
    assert not unused


def test_every_stated_amount_is_used() -> None:
    rules = (Path(FILE).parent / "cost.py").read_text()
    assert not [name for name in stated_usage().amounts if f'"{name}"' not in rules]


def test_a_stack_on_an_existing_cluster_costs_nothing_more() -> None:
    assert plan_of(recorded("local")).bill.missing == "costs are not computed for an existing cluster"
