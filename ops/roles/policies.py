"""The permissions of the roles of a stack.

Resources are limited by the stack's names, or by its tags where AWS generates the name. Where AWS supports neither, the
resource is `*`:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.aws import sagemaker
from infra.aws.names import LOG_GROUPS, Limit, Names, shortened
from infra.aws.policies import Conditions, Statement, declared
from infra.dag_declarations import DagDeclaration
from infra.preview_names import PREFIX
from infra.settings import PROJECT, Settings
from ops.aws.account import Account
from ops.pulumi.backend import Backend, backend_of
from ops.roles import actions

# The services that get a role of the stack: a test compares them with the trust policies of all roles.
SERVICES = (
    *("ec2.amazonaws.com", "eks.amazonaws.com", "monitoring.rds.amazonaws.com", "pods.eks.amazonaws.com"),
    "vpc-flow-logs.amazonaws.com",
)
PODS = ("pods.eks.amazonaws.com",)
# The services for which the first stack in an account creates AWS' own roles.
SERVICES_WITH_OWN_ROLE = ("eks.amazonaws.com", "rds.amazonaws.com")

# AWS does not limit these actions to resources. They read metadata only, or they are part of every login to a registry.
UNLIMITED = (
    *("ec2:Describe*", "elasticloadbalancing:Describe*", "rds:Describe*", "ecr:DescribeRepositories"),
    *("ecr:GetAuthorizationToken", "iam:ListRoles", "kms:ListAliases", "logs:DescribeLogGroups"),
    *("secretsmanager:ListSecrets", "servicequotas:GetAWSDefaultServiceQuota", "servicequotas:GetServiceQuota"),
    *("tag:GetResources", "eks:DescribeClusterVersions", "sns:GetSubscriptionAttributes"),
)
RECIPIENTS = "sns:ListSubscriptionsByTopic"
ALARM_SERVICES = ("budgets", "cloudwatch", "sns")
# AWS does not support resources for these. The role can only list the subscriptions of topics of its stack.
SUBSCRIPTIONS = ("sns:SetSubscriptionAttributes", "sns:Unsubscribe")
READ_IMAGES = (
    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"),
    "ecr:ListImages",
)
UPGRADE_INSIGHTS = "eks:ListInsights"
PUSH_IMAGES = ("ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart")
# What a deployment creates in EC2, by the names in ARNs.
NETWORK = (
    *("vpc", "subnet", "route-table", "internet-gateway", "natgateway", "elastic-ip", "security-group"),
    *("security-group-rule", "vpc-endpoint", "vpc-flow-log"),
)
# Attaching more permissions requires the boundary.
BOUNDED = ("iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy")
# EKS tags what a cluster creates: https://docs.aws.amazon.com/eks/latest/userguide/tag-subnets-auto.html
CLUSTER_TAG = "aws:ResourceTag/eks:eks-cluster-name"
# What `make destroy` deletes if a cluster left it, and the tag on volumes that it keeps.
DELETE_LEAKS = (
    *("ec2:CreateTags", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume", "ec2:TerminateInstances"),
    *("elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteTargetGroup"),
)
PREVIEW_TYPES = (
    "aws:iam/role:Role",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation",
)
BUCKETS_OF_PREVIEWS = ("data", "artifacts", "logs")


@dataclass(frozen=True)
class Scope:
    """What the roles of a stack are limited to.

    Attributes:
        stack: The stack.
        account: The account ID.
        region: The region.
        backend: Where Pulumi keeps its state.
        after: The previous stack in the promotion chain, whose images the stack copies.
    """

    stack: str
    account: str
    region: str
    backend: Backend
    after: str | None = None

    @classmethod
    def of(cls, stack: str, settings: Settings, account: Account) -> Scope:
        """Return the scope of a stack."""
        backend = backend_of(stack, account.id, account.region)
        after = settings.release.after if settings.release else None
        return cls(stack, account.id, account.region, backend, after)

    @property
    def names(self) -> Names:
        """The names of the stack."""
        return Names(PROJECT, self.stack)

    @property
    def prefix(self) -> str:
        """The prefix of all names of the stack."""
        return self.names.prefix

    @property
    def cluster(self) -> str:
        """The name of the cluster."""
        return self.names.of("cluster", Limit.CLUSTER)

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a regional resource."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def name(self, purpose: str) -> str:
        """Return the name of a role or policy of the workflows, which no role of the stack can change."""
        return shortened(f"github-{self.prefix}-{purpose}", Limit.ROLE)

    def role(self, name: str) -> str:
        """Return the ARN of a role, or of the roles with a pattern of names."""
        return f"arn:aws:iam::{self.account}:role/{name}"

    def policy(self, name: str) -> str:
        """Return the ARN of a policy."""
        return f"arn:aws:iam::{self.account}:policy/{name}"

    def bucket(self, purpose: str) -> str:
        """Return the ARN of a bucket of the stack."""
        return f"arn:aws:s3:::{self.names.bucket(purpose, self.account)}"

    def tags(self, key: str) -> dict[str, str]:
        """Return the stack's tags as values of a condition on `aws:RequestTag` or `aws:ResourceTag`."""
        return {f"{key}/project": PROJECT, f"{key}/stack": self.stack}


def deployer(scope: Scope, boundary: str) -> list[Statement]:
    """Return what deploys, inspects and destroys a stack; `boundary` must bound the roles that it creates."""
    needed = actions.of_types(actions.BY_TYPE)
    return [
        Statement(UNLIMITED, ("*",)),
        *_network(scope, needed),
        *_leaks(scope),
        *_keys(scope, needed),
        *_roles(scope.role(f"{scope.prefix}-*"), boundary, needed, SERVICES),
        Statement(
            ("iam:CreateServiceLinkedRole",),
            (scope.role("aws-service-role/*"),),
            conditions={"StringEquals": {"iam:AWSServiceName": SERVICES_WITH_OWN_ROLE}},
        ),
        Statement(("eks:CreateCluster",), ("*",), conditions=_new(scope)),
        Statement((*_of("eks", needed), UPGRADE_INSIGHTS), _cluster(scope)),
        Statement(_of("logs", needed), _log_groups(scope)),
        Statement(_of("rds", needed), _databases(scope)),
        Statement(
            [*(action for service in ALARM_SERVICES for action in _of(service, needed)), RECIPIENTS], _alarms(scope)
        ),
        Statement(SUBSCRIPTIONS, ("*",)),
        Statement(_of("s3", needed), (f"arn:aws:s3:::{scope.prefix}-*",)),
        Statement(
            (*_of("secretsmanager", needed), "secretsmanager:RestoreSecret"),
            (scope.arn("secretsmanager", f"secret:{scope.prefix}/*"),),
        ),
        Statement(sorted({*_of("ecr", needed), *READ_IMAGES, *PUSH_IMAGES}), _repositories(scope)),
        *_images_of_previous_stack(scope),
        *_state(scope, scope.stack),
        _secrets_in_state(scope, "kms:Decrypt", "kms:Encrypt"),
        # `make doctor` simulates the permissions of the role.
        Statement(("iam:GetRole", "iam:SimulatePrincipalPolicy"), (scope.role(scope.name("deploy")),)),
    ]


def reader(scope: Scope) -> list[Statement]:
    """Return what reads a stack, but no secret and no object except the state, in which secrets are encrypted."""
    needed = actions.reads()
    on_resources = [
        *(scope.role(f"{scope.prefix}-*"), *_cluster(scope), *_log_groups(scope), *_databases(scope)),
        *_alarms(scope),
        *(f"arn:aws:s3:::{scope.prefix}-*", scope.arn("secretsmanager", f"secret:{scope.prefix}/*")),
        *_repositories(scope),
    ]
    of_resources = [action for action in needed if not action.startswith(("ec2:", "kms:"))]
    # Without DescribeInstanceAttribute, which returns the user data of instances.
    unlimited = [action for action in UNLIMITED if action != "ec2:Describe*"]
    return [
        Statement([*unlimited, *_of("ec2", needed)], ("*",)),
        Statement(sorted({*of_resources, *READ_IMAGES, UPGRADE_INSIGHTS, RECIPIENTS}), on_resources),
        Statement(
            _of("kms", needed),
            (scope.arn("kms", "key/*"),),
            conditions={"StringEquals": scope.tags("aws:ResourceTag")},
        ),
        *_images_of_previous_stack(scope),
        Statement(("s3:ListBucket",), (_state_bucket(scope),)),
        Statement(("s3:GetObject",), (f"{_state_bucket(scope)}/.pulumi/stacks/{PROJECT}/{scope.stack}.json",)),
    ]


def previews(scope: Scope, boundary: str) -> list[Statement]:
    """Return what creates and deletes preview environments, which run code that is not merged yet."""
    needed = actions.of_types(PREVIEW_TYPES)
    objects = [f"{scope.bucket(purpose)}/previews/*" for purpose in BUCKETS_OF_PREVIEWS]
    preview_repositories = (scope.arn("ecr", f"repository/{scope.prefix}/previews/*"),)
    return [
        Statement(
            (
                "ecr:GetAuthorizationToken",
                "iam:ListRoles",
                "logs:DescribeLogGroups",
                "rds:Describe*",
                "tag:GetResources",
            ),
            ("*",),
        ),
        Statement((*READ_IMAGES, "ecr:DescribeRepositories"), _repositories(scope)),
        Statement(PUSH_IMAGES, preview_repositories),
        *_roles(scope.role(f"{PROJECT}-{PREFIX}*"), boundary, needed, PODS),
        Statement((*_of("eks", needed), "eks:DescribeCluster"), _cluster(scope)),
        Statement(
            ("s3:ListBucket",),
            [scope.bucket(purpose) for purpose in BUCKETS_OF_PREVIEWS],
            conditions={"StringLike": {"s3:prefix": "previews/*"}},
        ),
        Statement(("s3:DeleteObject",), objects),
        *_state(scope, f"{PREFIX}*"),
        Statement(("s3:GetObject",), (f"{_state_bucket(scope)}/.pulumi/stacks/{PROJECT}/{scope.stack}.json",)),
        _secrets_in_state(scope, "kms:Decrypt", "kms:Encrypt"),
    ]


def stack_boundary(scope: Scope) -> list[Statement]:
    """Return the most that a role of the stack may do: nothing that grants more permissions to itself or others."""
    profiles = f"arn:aws:iam::{scope.account}:instance-profile/*"
    return [
        Statement(("account:*", "iam:*", "organizations:*", "sts:AssumeRole"), ("*",), others=True),
        # EKS creates the instance profiles of its nodes, and AWS' own roles for load balancers and Spot.
        Statement(("iam:Get*", "iam:List*"), ("*",)),
        Statement(("iam:*InstanceProfile",), (profiles,)),
        Statement(("iam:CreateServiceLinkedRole",), (scope.role("aws-service-role/*"),)),
        # EKS passes the role of the nodes to EC2, and DAGs that train on SageMaker pass that of their jobs.
        Statement(
            ("iam:PassRole",),
            (scope.role(f"{scope.prefix}-*"),),
            conditions={"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", sagemaker.SERVICE]}},
        ),
    ]


def preview_boundary(scope: Scope, dags: Iterable[DagDeclaration]) -> list[Statement]:
    """Return the most that a pod of a preview environment may do: use its objects, and what the DAGs declare now."""
    return [
        Statement(
            ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
            [f"{scope.bucket(purpose)}/previews/*" for purpose in BUCKETS_OF_PREVIEWS],
        ),
        Statement(("s3:ListBucket",), [scope.bucket(purpose) for purpose in BUCKETS_OF_PREVIEWS]),
        Statement(
            ("kms:Decrypt", "kms:GenerateDataKey"),
            (scope.arn("kms", "key/*"),),
            conditions={"StringEquals": {"kms:ViaService": f"s3.{scope.region}.amazonaws.com"}},
        ),
        *(statement for dag in dags for statement in declared(dag)),
    ]


def _of(service: str, needed: Iterable[str]) -> list[str]:
    return sorted(action for action in needed if action.startswith(f"{service}:"))


def _new(scope: Scope) -> Conditions:
    return {"StringEquals": scope.tags("aws:RequestTag")}


def _network(scope: Scope, needed: set[str]) -> list[Statement]:
    """Return the actions on EC2's resources: IDs are generated, so new ones need the stack's tags, others have them."""
    writes = [action for action in _of("ec2", needed) if not action.startswith("ec2:Describe")]
    tagging = ("ec2:CreateTags", "ec2:DeleteTags")
    creating = [
        action
        for action in writes
        if action not in (*tagging, "ec2:CreateRoute")
        and action.startswith(("ec2:Allocate", "ec2:Authorize", "ec2:Create"))
    ]
    every = [scope.arn("ec2", f"{kind}/*") for kind in NETWORK]
    return [
        Statement(creating, every, conditions=_new(scope)),
        Statement(
            ("ec2:CreateTags",),
            every,
            conditions={
                "StringEquals": {
                    **scope.tags("aws:RequestTag"),
                    "ec2:CreateAction": [action.partition(":")[2] for action in creating],
                }
            },
        ),
        # Also what a new resource belongs to, such as the VPC of a subnet.
        Statement(writes, every, conditions={"StringEquals": scope.tags("aws:ResourceTag")}),
        # AWS creates the default security group of the VPC without tags.
        Statement(
            ("ec2:CreateTags", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress"),
            (scope.arn("ec2", "security-group/*"),),
            conditions={"Null": {"aws:ResourceTag/stack": "true"}},
        ),
    ]


def _leaks(scope: Scope) -> list[Statement]:
    resources = [
        *(scope.arn("ec2", f"{kind}/*") for kind in ("instance", "security-group", "volume")),
        *(scope.arn("elasticloadbalancing", f"{kind}/*") for kind in ("loadbalancer", "targetgroup")),
    ]
    return [
        Statement(DELETE_LEAKS, resources, conditions={"StringEquals": {CLUSTER_TAG: scope.cluster}}),
        # Not all of a cluster's interfaces have tags, and AWS deletes only those that nothing uses.
        Statement(("ec2:DeleteNetworkInterface",), (scope.arn("ec2", "network-interface/*"),)),
    ]


def _keys(scope: Scope, needed: set[str]) -> list[Statement]:
    """Return the actions on KMS keys: IDs are generated, so new ones need the stack's tags, others have them."""
    on_aliases = ("kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias")
    own = {"StringEquals": scope.tags("aws:ResourceTag")}
    on_keys = [action for action in _of("kms", needed) if action not in ("kms:CreateKey", "kms:ListAliases")]
    return [
        # A key that has tags or aliases cannot become the stack's.
        Statement(
            ("kms:CreateKey", "kms:TagResource"),
            ("*",),
            conditions={**_new(scope), "Null": {"aws:ResourceTag/stack": "true", "kms:ResourceAliases": "true"}},
        ),
        Statement(on_keys, (scope.arn("kms", "key/*"),), conditions=own),
        Statement(on_aliases, (scope.arn("kms", f"alias/{scope.prefix}-*"),)),
    ]


def _roles(pattern: str, boundary: str, needed: set[str], services: Sequence[str]) -> list[Statement]:
    """Return the actions on the roles with a pattern of names, whose permissions the boundary bounds."""
    unbounded = set(_of("iam", needed)) - {*BOUNDED, "iam:PassRole"}
    return [
        Statement(
            [action for action in BOUNDED if action in needed],
            (pattern,),
            conditions={"StringEquals": {"iam:PermissionsBoundary": boundary}},
        ),
        Statement(sorted(unbounded), (pattern,)),
        Statement(("iam:PassRole",), (pattern,), conditions={"StringEquals": {"iam:PassedToService": services}}),
    ]


def _cluster(scope: Scope) -> list[str]:
    own = [f"{kind}/{scope.cluster}/*" for kind in ("access-entry", "podidentityassociation")]
    return [scope.arn("eks", resource) for resource in (f"cluster/{scope.cluster}", *own)]


def _log_groups(scope: Scope) -> list[str]:
    return [scope.arn("logs", f"log-group:/aws/{path}/{scope.prefix}-*") for path in LOG_GROUPS]


def _databases(scope: Scope) -> list[str]:
    own = [f"{kind}:{scope.prefix}-*" for kind in ("db", "pg", "snapshot", "subgrp")]
    return [scope.arn("rds", resource) for resource in (*own, "og:default:*")]


def _alarms(scope: Scope) -> list[str]:
    """Return the ARNs of the alarms, of their topic and of the budget."""
    names = f"{scope.prefix}-*"
    budget = f"arn:aws:budgets::{scope.account}:budget/{names}"
    return [scope.arn("cloudwatch", f"alarm:{names}"), scope.arn("sns", names), budget]


def _repositories(scope: Scope) -> list[str]:
    return [scope.arn("ecr", f"repository/{scope.prefix}/*")]


def _images_of_previous_stack(scope: Scope) -> list[Statement]:
    if scope.after is None:
        return []
    pattern = scope.arn("ecr", f"repository/{Names(PROJECT, scope.after).prefix}/*")
    return [Statement((*READ_IMAGES, "ecr:DescribeRepositories"), (pattern,))]


def _state_bucket(scope: Scope) -> str:
    return f"arn:aws:s3:::{scope.backend.bucket}"


def _state(scope: Scope, stack: str) -> list[Statement]:
    """Return the actions on the state of the stacks with a pattern of names, including its locks and history.

    https://www.pulumi.com/docs/iac/operations/state-management/using-a-diy-backend/
    """
    bucket = _state_bucket(scope)
    paths = (
        f"stacks/{PROJECT}/{stack}.json*",
        *(f"{folder}/{PROJECT}/{stack}/*" for folder in ("backups", "history", "locks/organization")),
    )
    return [
        Statement(("s3:ListBucket",), (bucket,)),
        Statement(("s3:GetObject",), (f"{bucket}/.pulumi/meta.yaml",)),
        Statement(
            ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
            [f"{bucket}/.pulumi/{path}" for path in paths],
        ),
    ]


def _secrets_in_state(scope: Scope, *needed: str) -> Statement:
    return Statement(
        needed,
        (scope.arn("kms", "key/*"),),
        conditions={"ForAnyValue:StringEquals": {"kms:ResourceAliases": scope.backend.key_alias}},
    )
