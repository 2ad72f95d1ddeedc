"""The parts of the AWS platform that are computed without Pulumi: addresses, names, policies, node pools."""

import json
from ipaddress import IPv4Network

import pytest

from infra.airflow_platform import Component
from infra.aws.cluster import administrators
from infra.aws.dag_pools import DagPoolError, check_dag_pools
from infra.aws.identity import GRANTS, Grant, dag_grants, pod_trust, statements
from infra.aws.kubeconfig import kubeconfig
from infra.aws.names import Limit, Names, shortened
from infra.aws.network import plan_subnets
from infra.aws.node_pools import node_class_spec, node_pool_spec, taint_keys, volume_tags
from infra.aws.policies import Statement, document
from infra.aws.registry import lifecycle
from infra.dag_declarations import BucketFolder, DagDeclaration, Permission
from infra.settings import DisruptionBudget, Taint, load_aws

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
RESERVED_BY_AWS = 5  # in each subnet: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html


@pytest.mark.parametrize("prefix", range(16, 21))
@pytest.mark.parametrize("zones", [ZONES[:2], ZONES])
def test_subnets_are_within_the_vpc_and_do_not_overlap(prefix: int, zones: tuple[str, ...]) -> None:
    vpc = IPv4Network(f"10.0.0.0/{prefix}")
    subnets = [subnet for plan in plan_subnets(vpc, zones) for subnet in (plan.public, plan.private)]
    assert len(subnets) == 2 * len(zones)
    assert all(subnet.subnet_of(vpc) for subnet in subnets)
    assert not any(a.overlaps(b) for index, a in enumerate(subnets) for b in subnets[index + 1 :])


def test_a_zone_of_the_usual_vpc_has_room_for_sixteen_thousand_pods() -> None:
    for plan in plan_subnets(IPv4Network("10.10.0.0/16"), ZONES):
        assert plan.private.num_addresses - RESERVED_BY_AWS == 16379


def test_the_smallest_vpc_has_room_for_load_balancers() -> None:
    # At least eight free addresses: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html
    for plan in plan_subnets(IPv4Network("10.10.0.0/20"), ZONES):
        assert plan.public.num_addresses - RESERVED_BY_AWS >= 8


def test_a_third_zone_does_not_change_the_subnets_of_the_first_two() -> None:
    vpc = IPv4Network("10.10.0.0/16")
    assert plan_subnets(vpc, ZONES)[:2] == plan_subnets(vpc, ZONES[:2])


def test_a_name_within_the_limit_is_unchanged() -> None:
    assert Names("airflow", "dev").of("cluster", Limit.CLUSTER) == "airflow-dev-cluster"


@pytest.mark.parametrize("limit", Limit)
def test_a_name_that_is_too_long_is_shortened_and_stays_unique(limit: Limit) -> None:
    one, other = (shortened(f"airflow-{'x' * 600}-{end}", limit) for end in "ab")
    assert len(one) == len(other) == limit
    assert one != other


def test_a_shortened_name_has_no_trailing_separator() -> None:
    assert shortened("aaaa-bbbbbbbbbb", 12).startswith("aaaa-")
    assert "--" not in shortened("aaaa-bbbbbbbbbb", 12)


def test_names_of_two_stacks_differ() -> None:
    dev, prod = Names("airflow", "dev"), Names("airflow", "prod")
    assert dev.bucket("data", "123456789012") == "airflow-dev-data-123456789012"
    assert dev.path("serving", Limit.REPOSITORY) == "airflow-dev/serving"
    assert {dev.prefix, prod.prefix} == {"airflow-dev", "airflow-prod"}


def test_a_policy_omits_empty_fields() -> None:
    assert json.loads(document(Statement(("s3:GetObject",), ("arn",)))) == {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn"]}],
    }


DECLARED = DagDeclaration(
    reads=(BucketFolder(bucket="data", prefix="tables/"),),
    writes=(BucketFolder(bucket="data", prefix="images/"),),
    permissions=(Permission(actions=("sqs:SendMessage",), resources=("arn:aws:sqs:us-east-1:123456789012:scores",)),),
)
ROLES: dict[str, tuple[Grant, ...]] = {
    **{str(one): found for one, found in GRANTS.items()},
    "dag": dag_grants("churn", DECLARED),
}
BUCKETS = {name: f"arn:aws:s3:::{name}" for name in ("data", "artifacts", "logs")}


@pytest.mark.parametrize("role", [role for role in ROLES if ROLES[role]])
def test_no_component_may_list_another_prefix(role: str) -> None:
    listings = [
        statement
        for statement in statements(ROLES[role], BUCKETS, "key", "us-east-1")
        if statement.actions == ("s3:ListBucket",)
    ]
    for listing in listings:
        bucket = listing.resources[0].rpartition(":")[2]
        [prefixes] = [values["s3:prefix"] for values in listing.conditions.values()]
        assert prefixes == [f"{grant.prefix}*" for grant in ROLES[role] if grant.bucket == bucket]
    assert {listing.resources[0].rpartition(":")[2] for listing in listings} == {grant.bucket for grant in ROLES[role]}


def test_only_components_that_look_up_missing_objects_may_list_without_a_prefix() -> None:
    lenient = {
        (role, statement.resources[0].rpartition(":")[2])
        for role, grants in ROLES.items()
        if grants
        for statement in statements(grants, BUCKETS, "key", "us-east-1")
        if "StringLikeIfExists" in statement.conditions
    }
    assert lenient == {
        ("dag", "data"),
        *((role, "artifacts") for role in ("task", "dag")),
        *((role, "logs") for role in ("task", "dag", "triggerer")),
    }


@pytest.mark.parametrize("role", [role for role in ROLES if ROLES[role]])
def test_the_key_is_usable_only_through_s3_and_for_writing_only_by_writers(role: str) -> None:
    key = statements(ROLES[role], BUCKETS, "key", "us-east-1")[-1]
    writes = any("s3:PutObject" in grant.actions for grant in ROLES[role])
    assert key.resources == ("key",)
    assert key.conditions == {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
    assert ("kms:GenerateDataKey" in key.actions) == writes


def test_a_role_trusts_one_service_account_of_one_cluster() -> None:
    [statement] = json.loads(pod_trust("serving", "arn:cluster", "somewhere"))["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    assert statement["Condition"] == {
        "StringEquals": {
            "aws:RequestTag/eks-cluster-arn": "arn:cluster",
            "aws:RequestTag/kubernetes-namespace": "somewhere",
            "aws:RequestTag/kubernetes-service-account": "serving",
        }
    }


def test_every_component_has_its_own_service_account() -> None:
    assert len({component.service_account for component in Component}) == len(Component)


def test_the_gpu_pool_only_accepts_pods_that_request_a_gpu_and_has_a_limit() -> None:
    spec = node_pool_spec("gpu", load_aws("dev").node_pools["gpu"])
    assert spec["template"]["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]
    assert spec["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "1"}


def test_the_cpu_pool_has_no_taint_and_starts_the_instances_of_the_settings() -> None:
    spec = node_pool_spec("cpu", load_aws("dev").node_pools["cpu"])
    assert "taints" not in spec["template"]["spec"]
    assert spec["template"]["spec"]["requirements"] == [
        {"key": "eks.amazonaws.com/instance-family", "operator": "In", "values": ["t3a", "t3", "m7a", "m6a", "m5a"]},
        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]},
    ]
    assert spec["template"]["spec"]["nodeClassRef"] == {
        "group": "eks.amazonaws.com",
        "kind": "NodeClass",
        "name": "cpu",
    }


def test_only_tasks_that_name_another_pool_run_there() -> None:
    large = (
        load_aws("dev")
        .node_pools["gpu"]
        .model_copy(
            update={
                "instance_sizes": ("12xlarge",),
                "labels": {"team": "vision"},
                "taints": (Taint(key="team", value="vision", effect="NoExecute"),),
            }
        )
    )
    template = node_pool_spec("large", large)["template"]
    assert template["metadata"] == {"labels": {"team": "vision"}}
    assert template["spec"]["requirements"][1] == {
        "key": "eks.amazonaws.com/instance-size",
        "operator": "In",
        "values": ["12xlarge"],
    }
    assert template["spec"]["taints"] == [
        {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"},
        {"key": "node-pool", "value": "large", "effect": "NoSchedule"},
        {"key": "team", "value": "vision", "effect": "NoExecute"},
    ]
    pools = load_aws("dev").node_pools | {"large": large}
    assert taint_keys(pools) == {
        "cpu": [],
        "gpu": ["nvidia.com/gpu"],
        "large": ["nvidia.com/gpu", "node-pool", "team"],
    }


@pytest.mark.parametrize(
    ("dag", "sentence"),
    [
        (DagDeclaration(), None),
        (DagDeclaration(node_pool="cpu"), None),
        (DagDeclaration(gpus=1, node_pool="gpu"), None),
        (
            DagDeclaration(node_pool="large"),
            "dags/churn/dag.yaml: node_pool: dev has no node pool large without GPUs: choose from cpu, or add it to "
            "airflow:node_pools in Pulumi.dev.yaml",
        ),
        (DagDeclaration(node_pool="gpu"), "node_pool: dev has no node pool gpu without GPUs: choose from cpu"),
        (DagDeclaration(gpus=1, node_pool="cpu"), "node_pool: dev has no node pool cpu with GPUs: choose from gpu"),
        (
            DagDeclaration(gpus=2),
            "dags/churn/dag.yaml: gpus: 2 is more than max_gpus of the node pool gpu in Pulumi.dev.yaml, 1: raise "
            "max_gpus, or declare fewer",
        ),
    ],
)
def test_a_dag_declares_node_pools_of_the_stack(dag: DagDeclaration, sentence: str | None) -> None:
    pools = load_aws("dev").node_pools
    if sentence is None:
        check_dag_pools("dev", pools, {"churn": dag})
        return
    with pytest.raises(DagPoolError) as caught:
        check_dag_pools("dev", pools, {"churn": dag})
    assert sentence in str(caught.value)


def test_a_dag_with_gpus_runs_on_cpus_in_a_stack_without_any() -> None:
    pools = {"cpu": load_aws("dev").node_pools["cpu"]}
    check_dag_pools("dev", pools, {"churn": DagDeclaration(gpus=4, node_pool="large")})


def test_a_disruption_budget_omits_unset_fields() -> None:
    pool = (
        load_aws("dev")
        .node_pools["cpu"]
        .model_copy(
            update={
                "disruption_budgets": (DisruptionBudget(nodes="1"), DisruptionBudget(nodes="0", reasons=("Drifted",)))
            }
        )
    )
    budgets = node_pool_spec("cpu", pool)["disruption"]["budgets"]
    assert budgets == [{"nodes": "1"}, {"nodes": "0", "reasons": ["Drifted"]}]


def test_a_gpu_node_reads_its_images_faster_than_the_default() -> None:
    pools = load_aws("dev").node_pools
    cpu, gpu = (node_class_spec(pools[name], {}, "role", ["subnet-1"], "sg-1") for name in ("cpu", "gpu"))
    assert cpu["ephemeralStorage"] == {"size": "40Gi"}
    assert gpu["ephemeralStorage"] == {
        "size": "120Gi",
        "iops": 4000,
        "throughput": 500,
    }


def test_volumes_have_the_tags_of_the_stack() -> None:
    assert volume_tags({"stack": "dev", "owner": "me"}) == {
        "tagSpecification_1": "stack=dev",
        "tagSpecification_2": "owner=me",
    }


ADMIN, ROLE = "arn:aws:iam::123456789012:role/admin", "arn:aws:iam::123456789012:role/deploy"


@pytest.mark.parametrize(
    ("admins", "role", "expected"),
    [
        ((), None, []),
        ((), ROLE, []),
        ((ADMIN,), None, [ADMIN]),
        ((ADMIN,), ROLE, [ADMIN, ROLE]),
        ((ROLE,), ROLE, [ROLE]),
    ],
)
def test_the_deployment_role_is_always_an_administrator(
    admins: tuple[str, ...], role: str | None, expected: list[str]
) -> None:
    assert administrators(admins, role) == expected


def test_the_kubeconfig_gets_a_token_and_assumes_the_deployment_role() -> None:
    config = json.loads(kubeconfig("arn", "name", "https://host", "cert", "eu-west-1", ROLE))
    command = config["users"][0]["user"]["exec"]
    assert [command["command"], *command["args"]] == [
        *("aws", "eks", "get-token", "--cluster-name", "name", "--region", "eu-west-1", "--output", "json"),
        *("--role-arn", ROLE),
    ]
    assert config["clusters"][0]["cluster"] == {"server": "https://host", "certificate-authority-data": "cert"}
    assert "--role-arn" not in kubeconfig("arn", "name", "https://host", "cert", "eu-west-1", None)


def test_ecr_applies_the_rule_for_any_image_last() -> None:
    # ECR refuses a policy in which "any" does not have the highest number:
    # https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
    rules = json.loads(lifecycle(150))["rules"]
    assert [rule["selection"]["tagStatus"] for rule in rules] == ["untagged", "any"]
    assert [rule["rulePriority"] for rule in rules] == [1, 2]
