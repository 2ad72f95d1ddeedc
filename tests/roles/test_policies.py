"""The permissions of the roles of the GitHub workflows, compared with what the stacks need."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from infra.aws.policies import Statement
from infra.dag_declarations import DagDeclaration, Notification, Permission
from infra.errors import OperationError
from ops.plan.cloud import ACCOUNT
from ops.plan.resources import Recording, Resource
from ops.pulumi.backend import backend_of
from ops.roles import actions, policies
from ops.roles.documents import MOST_CHARACTERS, documents
from ops.roles.policies import Scope
from tests.recordings import recorded

from . import boto_calls, cloudformation
from .conftest import BOUNDARY, PREVIEW_BOUNDARY
from .evaluation import Context, permits

STACKS = ("dev", "staging", "prod")
REGION = "us-east-1"
# The ARN of a resource by its inputs, or that of the resource of which it is a part.
ARNS = {
    "aws:cloudwatch/logGroup:LogGroup": "logs:{name}",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "cloudwatch:alarm:{name}",
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": "ecr:repository/{repository}",
    "aws:ecr/repository:Repository": "ecr:repository/{name}",
    "aws:eks/accessEntry:AccessEntry": "eks:access-entry/{clusterName}/role/1",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": "eks:access-entry/{clusterName}/role/1",
    "aws:eks/cluster:Cluster": "eks:cluster/{name}",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": "eks:podidentityassociation/{clusterName}/a-1",
    "aws:kms/alias:Alias": "kms:{name}",
    "aws:kms/key:Key": "kms:key/1",
    "aws:rds/instance:Instance": "rds:db:{identifier}",
    "aws:rds/parameterGroup:ParameterGroup": "rds:pg:{name}",
    "aws:rds/subnetGroup:SubnetGroup": "rds:subgrp:{name}",
    "aws:secretsmanager/secret:Secret": "secretsmanager:secret:{name}-AbCdEf",
    "aws:sns/topic:Topic": "sns:{name}",
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": "ec2:security-group/1",
    "aws:ec2/eip:Eip": "ec2:elastic-ip/1",
    "aws:ec2/flowLog:FlowLog": "ec2:vpc-flow-log/1",
    "aws:ec2/internetGateway:InternetGateway": "ec2:internet-gateway/1",
    "aws:ec2/natGateway:NatGateway": "ec2:natgateway/1",
    "aws:ec2/route:Route": "ec2:route-table/1",
    "aws:ec2/routeTable:RouteTable": "ec2:route-table/1",
    "aws:ec2/routeTableAssociation:RouteTableAssociation": "ec2:route-table/1",
    "aws:ec2/securityGroup:SecurityGroup": "ec2:security-group/1",
    "aws:ec2/subnet:Subnet": "ec2:subnet/1",
    "aws:ec2/vpc:Vpc": "ec2:vpc/1",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "ec2:vpc-endpoint/1",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": "ec2:security-group-rule/1",
}
# Changes that AWS does not limit to resources. They need the random ID of a subscription, which the role can only list
# for the topics of its stack.
UNBOUNDED = ("sns:SetSubscriptionAttributes", "sns:Unsubscribe")
GLOBAL = {
    "aws:budgets/budget:Budget": "budgets::{account}:budget/{name}",
    "aws:iam/role:Role": "iam::{account}:role/{name}",
    "aws:iam/rolePolicy:RolePolicy": "iam::{account}:role/{role}",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "iam::{account}:role/{role}",
    "aws:secretsmanager/secretVersion:SecretVersion": "{secretId}",
    "aws:sns/topicPolicy:TopicPolicy": "{arn}",
    "aws:sns/topicSubscription:TopicSubscription": "{topic}",
}


def scope_of(stack: str) -> Scope:
    after = {"staging": "dev", "prod": "staging"}.get(stack)
    return Scope(stack, ACCOUNT, REGION, backend_of(stack, ACCOUNT, REGION), after)


def tags(key: str, stack: str) -> dict[str, str]:
    return {f"{key}/project": "airflow", f"{key}/stack": stack}


def arn_of(resource: Resource) -> str:
    """Return the ARN of a recorded resource, or that of the resource of which it is a part."""
    if resource.type.startswith("aws:s3/"):
        return f"arn:aws:s3:::{resource.inputs['bucket']}"
    if pattern := GLOBAL.get(resource.type):
        found = pattern.format(account=ACCOUNT, **resource.inputs)
        return found if found.startswith("arn:") else f"arn:aws:{found}"
    service, _, name = ARNS[resource.type].partition(":")
    path = "log-group:" if service == "logs" else ""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{path}{name.format(**resource.inputs)}"


def aws_resources(recording: Recording) -> list[Resource]:
    found = [one for one in recording.resources if one.custom and one.type.startswith("aws:")]
    assert found
    return found


def contexts(action: str, stack: str) -> Iterator[Context]:
    """Yield what AWS knows about a request for a new resource, and for an existing one."""
    operation = {"ec2:CreateAction": "CreateVpc"} if action == "ec2:CreateTags" else {}
    services = {"iam:PassedToService": "eks.amazonaws.com", "iam:PermissionsBoundary": BOUNDARY}
    yield {**tags("aws:RequestTag", stack), **operation, **services}
    yield {**tags("aws:ResourceTag", stack), **services}


def requests(stack: str) -> set[tuple[str, str]]:
    """Return the actions for all resources of a stack, with their ARNs."""
    found = aws_resources(recorded(stack))
    return {(action, arn_of(resource)) for resource in found for action in actions.BY_TYPE[resource.type].every()}


def reading(action: str) -> bool:
    return action.partition(":")[2].startswith(("Batch", "Describe", "Get", "List", "View"))


def allowed(statements: list[Statement], action: str, arn: str, stack: str) -> bool:
    arns = [arn]
    if arn.startswith(f"arn:aws:eks:{REGION}"):
        arns.append(f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/airflow-{stack}-cluster")
    if action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
        arns = [f"{arn}/object"]
    return any(permits(statements, action, each, context) for each in arns for context in contexts(action, stack))


@pytest.mark.parametrize("stack", STACKS)
def test_the_deployer_may_do_everything_with_every_recorded_resource(stack: str) -> None:
    statements = policies.deployer(scope_of(stack), BOUNDARY)
    denied = {request for request in requests(stack) if not allowed(statements, *request, stack)}
    assert denied == set()


@pytest.mark.parametrize("stack", STACKS)
def test_the_deployer_changes_nothing_of_another_stack(stack: str) -> None:
    other = "prod" if stack != "prod" else "dev"
    statements = policies.deployer(scope_of(stack), BOUNDARY)
    changes = {request for request in requests(other) if not reading(request[0]) and request[0] not in UNBOUNDED}
    context = tags("aws:ResourceTag", other)
    assert {request for request in changes if permits(statements, *request, context)} == set()


@pytest.mark.parametrize("type_", sorted(cloudformation.TYPES))
def test_the_deployer_has_the_permissions_that_aws_states_for_a_type(type_: str) -> None:
    granted = {action for one in policies.deployer(scope_of("prod"), BOUNDARY) for action in one.actions}
    needed = cloudformation.permissions(type_)
    assert needed
    assert {each for each in needed if not any(fnmatchcase(each, action) for action in granted)} == set()


def test_the_actions_are_known_for_every_type_of_resource_and_no_other() -> None:
    types = {resource.type for stack in STACKS for resource in aws_resources(recorded(stack))}
    assert actions.BY_TYPE.keys() == types
    assert {*cloudformation.TYPES, *cloudformation.PARTS} == types


def test_the_deployer_may_make_every_request_of_the_tool() -> None:
    granted = {action for one in policies.deployer(scope_of("dev"), BOUNDARY) for action in one.actions}
    needed = boto_calls.actions(boto_calls.files())
    assert {"eks:UpdateClusterConfig", "ec2:TerminateInstances", "secretsmanager:RestoreSecret"} <= needed
    assert {each for each in needed if not any(fnmatchcase(each, action) for action in granted)} == set()


def test_a_role_may_be_passed_to_the_services_that_the_recorded_roles_trust_and_no_other() -> None:
    texts = [one.inputs["assumeRolePolicy"] for one in recorded("prod").of_type("aws:iam/role:Role")]
    trusted = {service for text in texts for service in policies.SERVICES if f'"{service}"' in text}
    assert all(any(f'"{service}"' in text for service in policies.SERVICES) for text in texts)
    assert trusted == set(policies.SERVICES)


def test_new_permissions_require_the_boundary() -> None:
    statements = policies.deployer(scope_of("dev"), BOUNDARY)
    role = f"arn:aws:iam::{ACCOUNT}:role/airflow-dev-task"
    for action in policies.BOUNDED:
        assert permits(statements, action, role, {"iam:PermissionsBoundary": BOUNDARY})
        assert not permits(statements, action, role, {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/Other"})
        assert not permits(statements, action, role)
    assert not permits(statements, "iam:DeleteRolePermissionsBoundary", role)


@pytest.mark.parametrize("make", [policies.deployer, policies.previews])
def test_no_role_may_change_the_roles_of_the_workflows(make: object) -> None:
    scope = scope_of("dev")
    statements = policies.deployer(scope, BOUNDARY) if make is policies.deployer else policies.previews(scope, BOUNDARY)
    for purpose in ("deploy", "read", "preview"):
        role = scope.role(scope.name(purpose))
        for action in (*policies.BOUNDED, "iam:PassRole", "iam:UpdateAssumeRolePolicy"):
            assert not permits(statements, action, role, {"iam:PermissionsBoundary": BOUNDARY})
    assert not permits(statements, "iam:CreatePolicyVersion", scope.policy(scope.name("boundary")))


def test_a_tagged_key_or_security_group_cannot_become_one_of_the_stack() -> None:
    statements = policies.deployer(scope_of("dev"), BOUNDARY)
    key, group = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0", f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/sg-0"
    new, others = tags("aws:RequestTag", "dev"), tags("aws:ResourceTag", "prod")
    assert permits(statements, "kms:TagResource", key, new)
    assert not permits(statements, "kms:TagResource", key, {**new, **others})
    assert not permits(statements, "kms:TagResource", key, {**new, "kms:ResourceAliases": ["alias/theirs"]})
    assert permits(statements, "ec2:CreateTags", group, new)
    assert not permits(statements, "ec2:CreateTags", group, {**new, **others})


def test_only_leaks_of_its_own_cluster_are_deleted() -> None:
    statements = policies.deployer(scope_of("dev"), BOUNDARY)
    instance = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-0"
    assert permits(statements, "ec2:TerminateInstances", instance, {policies.CLUSTER_TAG: "airflow-dev-cluster"})
    assert not permits(statements, "ec2:TerminateInstances", instance, {policies.CLUSTER_TAG: "airflow-prod-cluster"})


def state(stack: str) -> str:
    return f"arn:aws:s3:::airflow-pulumi-state-{ACCOUNT}-{REGION}/.pulumi/stacks/airflow/{stack}.json"


def key_of_secrets(stack: str) -> Context:
    return {"kms:ResourceAliases": [f"alias/airflow-{stack}-pulumi"]}


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject"])
def test_the_deployer_uses_only_the_state_and_the_key_of_its_stack(action: str) -> None:
    statements = policies.deployer(scope_of("dev"), BOUNDARY)
    assert permits(statements, action, state("dev"))
    assert not permits(statements, action, state("prod"))
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0"
    assert permits(statements, "kms:Decrypt", key, key_of_secrets("dev"))
    assert not permits(statements, "kms:Decrypt", key, key_of_secrets("prod"))


@pytest.mark.parametrize("stack", STACKS)
def test_the_reader_reads_every_recorded_resource(stack: str) -> None:
    statements = policies.reader(scope_of(stack))
    reads = {request for request in requests(stack) if request[0] in actions.reads()}
    denied = {request for request in reads if not allowed(statements, *request, stack)}
    assert denied == set()


@pytest.mark.parametrize("stack", STACKS)
def test_the_reader_changes_nothing_and_reads_no_secret(stack: str) -> None:
    statements = policies.reader(scope_of(stack))
    granted = {action for one in statements for action in one.actions}
    assert all(map(reading, granted))
    assert not granted & {"secretsmanager:GetSecretValue", "kms:Decrypt", "kms:GenerateDataKey"}
    assert not permits(statements, "ec2:DescribeInstanceAttribute", "*")
    assert permits(statements, "s3:GetObject", state(stack))
    for resource in recorded(stack).of_type("aws:s3/bucket:Bucket"):
        assert not permits(statements, "s3:GetObject", f"{arn_of(resource)}/object")


def test_images_of_the_previous_stack_can_be_read_only() -> None:
    for statements in (policies.deployer(scope_of("staging"), BOUNDARY), policies.reader(scope_of("staging"))):
        repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/airflow-dev/airflow"
        assert permits(statements, "ecr:BatchGetImage", repository)
        assert not permits(statements, "ecr:PutImage", repository)


def test_the_role_of_previews_manages_every_recorded_resource_of_a_preview(preview: Recording) -> None:
    statements = policies.previews(scope_of("dev"), BOUNDARY)
    found = aws_resources(preview)
    assert {resource.type for resource in found} == set(policies.PREVIEW_TYPES)
    services = {"iam:PassedToService": "pods.eks.amazonaws.com", "iam:PermissionsBoundary": BOUNDARY}
    cluster = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/airflow-dev-cluster"
    for resource in found:
        arns = [arn_of(resource), cluster] if resource.type.startswith("aws:eks") else [arn_of(resource)]
        for action in actions.BY_TYPE[resource.type].every():
            assert any(permits(statements, action, arn, services) for arn in arns), (action, arns)


def test_the_roles_of_a_preview_have_its_own_boundary(preview: Recording) -> None:
    roles = preview.of_type("aws:iam/role:Role")
    assert roles
    assert {role.inputs.get("permissionsBoundary") for role in roles} == {PREVIEW_BOUNDARY}


def test_the_role_of_previews_changes_nothing_of_its_base() -> None:
    statements = policies.previews(scope_of("dev"), BOUNDARY)
    changes = {request for request in requests("dev") if not reading(request[0])}
    done = {request for request in changes if allowed(statements, *request, "dev")}
    # Its own pod identities and images are in the cluster and the registry of the base.
    assert {action for action, arn in done if not arn.startswith("arn:aws:eks")} == set()
    assert {action for action, _ in done} <= set(actions.of_types(policies.PREVIEW_TYPES))


def test_the_role_of_previews_cannot_push_to_repositories_with_signed_images() -> None:
    statements = policies.previews(scope_of("dev"), BOUNDARY)
    registry = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/airflow-dev"
    for action in policies.PUSH_IMAGES:
        assert permits(statements, action, f"{registry}/previews/airflow")
        assert not permits(statements, action, f"{registry}/airflow")
    assert permits(statements, "ecr:BatchGetImage", f"{registry}/airflow")


def test_the_role_of_previews_deletes_only_objects_of_previews() -> None:
    statements = policies.previews(scope_of("dev"), BOUNDARY)
    bucket = f"arn:aws:s3:::airflow-dev-data-{ACCOUNT}"
    assert permits(statements, "s3:DeleteObject", f"{bucket}/previews/preview-x/data")
    assert not permits(statements, "s3:DeleteObject", f"{bucket}/images/1.png")
    assert permits(statements, "s3:PutObject", state("preview-x-0123ab"))
    assert permits(statements, "s3:GetObject", state("dev"))
    assert not permits(statements, "s3:PutObject", state("dev"))


def test_a_role_of_the_stack_grants_no_permissions() -> None:
    bound = policies.stack_boundary(scope_of("dev"))
    role = f"arn:aws:iam::{ACCOUNT}:role/airflow-dev-task"
    assert permits(bound, "s3:GetObject", "arn:aws:s3:::any/object")
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:CreateAccessKey", "sts:AssumeRole", "account:Any"):
        assert not permits(bound, action, role)
    assert not permits(bound, "iam:PassRole", role, {"iam:PassedToService": "lambda.amazonaws.com"})
    job = f"arn:aws:iam::{ACCOUNT}:role/airflow-dev-dag-external-training-sagemaker-job"
    assert permits(bound, "iam:PassRole", job, {"iam:PassedToService": "sagemaker.amazonaws.com"})


def test_a_pod_of_a_preview_uses_only_objects_of_previews_and_what_dags_declare() -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:scores"
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:team"
    declared = DagDeclaration(
        notify=(Notification(connection="team", topic=topic),),
        permissions=(Permission(actions=("sqs:SendMessage",), resources=(queue,)),),
    )
    bound = policies.preview_boundary(scope_of("dev"), [declared])
    bucket = f"arn:aws:s3:::airflow-dev-data-{ACCOUNT}"
    assert permits(bound, "s3:PutObject", f"{bucket}/previews/preview-x/a")
    assert not permits(bound, "s3:PutObject", f"{bucket}/images/a")
    assert permits(bound, "sqs:SendMessage", queue)
    assert permits(bound, "sns:Publish", topic)
    assert not permits(bound, "rds:DeleteDBInstance", f"arn:aws:rds:{REGION}:{ACCOUNT}:db:airflow-prod-database")


def test_wildcards_are_only_where_aws_has_no_resources_or_a_condition_limits_them() -> None:
    for statements in (policies.deployer(scope_of("dev"), BOUNDARY), policies.reader(scope_of("dev"))):
        for one in statements:
            unlimited = all(action in UNBOUNDED or reading(action) for action in one.actions)
            assert "*" not in one.resources or one.conditions or unlimited


@pytest.mark.parametrize("stack", STACKS)
def test_every_policy_is_within_the_limit_of_iam(stack: str) -> None:
    for statements in (policies.deployer(scope_of(stack), BOUNDARY), policies.reader(scope_of(stack))):
        assert all(len(text.replace(" ", "")) <= MOST_CHARACTERS for text in documents(statements))


def test_permissions_are_split_over_policies_in_order() -> None:
    statements = [Statement((f"s3:Get{'x' * 2000}{number}",), ("*",)) for number in range(7)]
    texts = documents(statements)
    assert [text.count("Effect") for text in texts] == [2, 2, 2, 1]
    assert all(f"x{number}" in texts[number // 2] for number in range(7))


@pytest.mark.parametrize(
    "statements", [[Statement(("s3:" + "x" * 7000,), ("*",))], [Statement(("s3:" + "x" * 5000,))] * 11]
)
def test_permissions_that_fit_into_no_policies_are_an_error(statements: list[Statement]) -> None:
    with pytest.raises(OperationError, match="the permissions need"):
        documents(statements)
