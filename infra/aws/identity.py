"""The AWS permissions of each kind of pod, granted by EKS Pod Identity."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pulumi
import pulumi_aws as aws

from infra.airflow_names import NAMESPACE, tasks_namespace
from infra.airflow_platform import LOGS_PREFIX, MLFLOW_PREFIX, Component
from infra.aws.account import Account
from infra.aws.names import Limit
from infra.aws.policies import Statement, document, trust

BucketPurpose = Literal["data", "artifacts", "logs"]

# Writing includes aborting a failed multipart upload.
READ = ("s3:GetObject",)
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")
DELETE = ("s3:DeleteObject",)


@dataclass(frozen=True)
class Grant:
    """The actions of a component on the objects under a prefix of a bucket.

    Attributes:
        bucket: The purpose of the bucket.
        prefix: The prefix of the objects' keys.
        actions: The S3 actions.
        finds_missing: Whether the component looks up objects that may not exist. S3 answers "not found" only to
            callers with s3:ListBucket, and checks it without a prefix, so listing without a prefix is allowed as well.
    """

    bucket: BucketPurpose
    prefix: str
    actions: tuple[str, ...]
    finds_missing: bool = False


_LOGS = Grant("logs", LOGS_PREFIX, READ + WRITE, finds_missing=True)

# The folders are those of the DAGs; `dags/image_classifier` moves unreadable files from `images/` to `quarantine/`.
# Scheduler and dag-processor have roles without permissions: neither uses AWS, and the dag-processor runs the code of
# everyone who may push a DAG.
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
    # Rolls out serving in Kubernetes and writes its log.
    Component.DEPLOY: (_LOGS,),
    Component.MLFLOW: (Grant("artifacts", MLFLOW_PREFIX, READ + WRITE + DELETE),),
    Component.SERVING: (Grant("artifacts", MLFLOW_PREFIX, READ),),
}


@dataclass(frozen=True)
class IdentityScope:
    """The pods that get the identities, and the resources that they use.

    Attributes:
        cluster_name: The name of the cluster.
        cluster_arn: The ARN of the cluster.
        bucket_arns: The ARNs of the buckets, by purpose.
        key_arn: The ARN of the key that encrypts the buckets.
        namespace: The namespace of Airflow, from which that of its tasks follows.
        prefix: The prefix of the keys of all their objects.
    """

    cluster_name: pulumi.Output[str]
    cluster_arn: pulumi.Output[str]
    bucket_arns: Mapping[BucketPurpose, pulumi.Output[str]]
    key_arn: pulumi.Output[str]
    namespace: str = NAMESPACE
    prefix: str = ""


class Identities(pulumi.ComponentResource):
    """The IAM roles of the components.

    Attributes:
        role_arns: The ARN of each component's role.
    """

    role_arns: Mapping[Component, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        account: Account,
        scope: IdentityScope,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the roles and their Pod Identity associations."""
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
        namespace = component.namespace(scope.namespace, tasks_namespace(scope.namespace))
        role = aws.iam.Role(
            f"{component}-role",
            name=self._account.names.of(component, Limit.ROLE),
            assume_role_policy=scope.cluster_arn.apply(lambda arn: pod_trust(component, arn, namespace)),
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
            namespace=namespace,
            service_account=component.service_account,
            role_arn=role.arn,
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(depends_on=permissions)),
        )
        return role.arn


def pod_trust(component: Component, cluster_arn: str, namespace: str) -> str:
    """Return the trust policy for one service account of one cluster.

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
    """Return the permissions of a component, given the ARNs of the buckets and the prefix of all keys."""
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
