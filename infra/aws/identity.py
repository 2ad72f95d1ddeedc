"""What each kind of pod may do in AWS, and how it comes to be allowed to: EKS Pod Identity."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pulumi
import pulumi_aws as aws

from infra.airflow_platform import LOGS_PREFIX, MLFLOW_PREFIX, NAMESPACE, Component
from infra.aws.account import Account
from infra.aws.names import Limit
from infra.aws.policies import Statement, document, trust

BucketPurpose = Literal["data", "artifacts", "logs"]

# An upload in parts that fails is taken back by the same right.
READ = ("s3:GetObject",)
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")
DELETE = ("s3:DeleteObject",)


@dataclass(frozen=True)
class Grant:
    """What a component does with the objects under a prefix of a bucket.

    Attributes:
        finds_missing: The component looks for objects that may not be there. S3 says "not found" only to those who may
            list the bucket, and judges that without a prefix: so a listing that gives no prefix is allowed, too.
    """

    bucket: BucketPurpose
    prefix: str
    actions: tuple[str, ...]
    finds_missing: bool = False


_LOGS = Grant("logs", LOGS_PREFIX, READ + WRITE, finds_missing=True)

# The folders are those of the DAGs; `dags/image_classifier` moves what it cannot read from `images/` to `quarantine/`.
# Scheduler and dag-processor have an identity without any rights: neither touches AWS, and the dag-processor runs what
# anybody who may push a DAG has written.
GRANTS: Mapping[Component, tuple[Grant, ...]] = {
    Component.SCHEDULER: (),
    Component.DAG_PROCESSOR: (),
    Component.API_SERVER: (Grant("logs", LOGS_PREFIX, READ),),
    Component.TRIGGERER: (_LOGS,),
    Component.TASK: (
        Grant("data", "images/", READ + WRITE + DELETE),
        Grant("data", "quarantine/", READ + WRITE),
        Grant("artifacts", "image_classifier/", READ + WRITE, finds_missing=True),
        Grant("artifacts", MLFLOW_PREFIX, READ + WRITE, finds_missing=True),
        _LOGS,
    ),
    # It rolls out serving in Kubernetes, and writes its log.
    Component.DEPLOY: (_LOGS,),
    Component.MLFLOW: (Grant("artifacts", MLFLOW_PREFIX, READ + WRITE + DELETE),),
    Component.SERVING: (Grant("artifacts", MLFLOW_PREFIX, READ),),
}


@dataclass(frozen=True)
class IdentityScope:
    """Where the pods are, and what they use.

    Attributes:
        cluster_name: The cluster.
        cluster_arn: Its ARN.
        bucket_arns: The buckets.
        key_arn: The key of the buckets.
        namespace: The namespace of the pods.
        prefix: What the keys of all their objects begin with.
    """

    cluster_name: pulumi.Output[str]
    cluster_arn: pulumi.Output[str]
    bucket_arns: Mapping[BucketPurpose, pulumi.Output[str]]
    key_arn: pulumi.Output[str]
    namespace: str = NAMESPACE
    prefix: str = ""


class Identities(pulumi.ComponentResource):
    """The roles of the components.

    Attributes:
        role_arns: Each component's role.
    """

    role_arns: Mapping[Component, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        account: Account,
        scope: IdentityScope,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make the roles."""
        super().__init__("airflow:aws:Identities", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._account = account
        self._scope = scope
        self._resources = pulumi.Output.all(
            data=scope.bucket_arns["data"],
            artifacts=scope.bucket_arns["artifacts"],
            logs=scope.bucket_arns["logs"],
            key=scope.key_arn,
        )

        self.role_arns = {component: self._create_role(component) for component in Component}

        self.register_outputs({"role_arns": self.role_arns})

    def _create_role(self, component: Component) -> pulumi.Output[str]:
        scope = self._scope
        role = aws.iam.Role(
            f"{component}-role",
            name=self._account.names.of(component, Limit.ROLE),
            assume_role_policy=scope.cluster_arn.apply(lambda arn: pod_trust(component, arn, scope.namespace)),
            opts=self._child_opts,
        )
        permissions = []
        if GRANTS[component]:
            policy = self._resources.apply(
                lambda arns: document(*statements(component, arns, arns["key"], self._account.region, scope.prefix))
            )
            permissions.append(
                aws.iam.RolePolicy(
                    f"{component}-policy", name="buckets", role=role.name, policy=policy, opts=self._child_opts
                )
            )
        aws.eks.PodIdentityAssociation(
            f"{component}-identity",
            cluster_name=scope.cluster_name,
            namespace=scope.namespace,
            service_account=component.service_account,
            role_arn=role.arn,
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(depends_on=permissions)),
        )
        return role.arn


def pod_trust(component: Component, cluster_arn: str, namespace: str) -> str:
    """Return the trust in one service account of one cluster.

    https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html
    """
    return trust(
        "pods.eks.amazonaws.com",
        "sts:AssumeRole",
        "sts:TagSession",
        conditions={
            "StringEquals": {
                "aws:RequestTag/eks-cluster-arn": cluster_arn,
                "aws:RequestTag/kubernetes-namespace": namespace,
                "aws:RequestTag/kubernetes-service-account": component.service_account,
            }
        },
    )


def statements(
    component: Component, buckets: Mapping[str, str], key_arn: str, region: str, prefix: str = ""
) -> list[Statement]:
    """Return a component's rights, given the ARNs of the buckets and what all keys begin with."""
    grants = [replace(grant, prefix=f"{prefix}{grant.prefix}") for grant in GRANTS[component]]
    objects = [Statement(grant.actions, (f"{buckets[grant.bucket]}/{grant.prefix}*",)) for grant in grants]
    listings = [
        _listing(buckets[bucket], [grant for grant in grants if grant.bucket == bucket])
        for bucket in dict.fromkeys(grant.bucket for grant in grants)
    ]
    writes = any(action in grant.actions for grant in grants for action in WRITE)
    key = Statement(
        ("kms:Decrypt", "kms:GenerateDataKey") if writes else ("kms:Decrypt",),
        (key_arn,),
        conditions={"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}},
    )
    return [*objects, *listings, key]


def _listing(bucket_arn: str, grants: list[Grant]) -> Statement:
    operator = "StringLikeIfExists" if any(grant.finds_missing for grant in grants) else "StringLike"
    return Statement(
        ("s3:ListBucket",),
        (bucket_arn,),
        conditions={operator: {"s3:prefix": [f"{grant.prefix}*" for grant in grants]}},
    )
