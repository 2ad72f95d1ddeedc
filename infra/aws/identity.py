"""The AWS permissions of each kind of pod, granted by EKS Pod Identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pulumi
import pulumi_aws as aws

from infra.airflow_names import NAMESPACE, tasks_namespace
from infra.airflow_platform import LOGS_PREFIX, MLFLOW_PREFIX, Component
from infra.aws import sagemaker
from infra.aws.account import Account
from infra.aws.names import Limit
from infra.aws.policies import Statement, declared, document, publishing, this_account, trust
from infra.dag_declarations import DagDeclaration, account_name

BucketPurpose = Literal["data", "artifacts", "logs"]

# Writing includes aborting a failed multipart upload.
READ = ("s3:GetObject",)
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")
DELETE = ("s3:DeleteObject",)

BUCKETS_OF_DAGS: tuple[BucketPurpose, ...] = ("data", "artifacts")


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

_MLFLOW = Grant("artifacts", MLFLOW_PREFIX, READ + WRITE, finds_missing=True)

# Scheduler and dag-processor have roles without permissions: neither uses AWS, and the dag-processor runs the code of
# everyone who may push a DAG.
GRANTS: Mapping[Component, tuple[Grant, ...]] = {
    Component.SCHEDULER: (),
    Component.DAG_PROCESSOR: (),
    Component.API_SERVER: (Grant("logs", LOGS_PREFIX, READ),),
    Component.TRIGGERER: (_LOGS,),
    # DAGs that were pushed after the last deployment: the next one creates their own roles.
    Component.TASK: (_MLFLOW, _LOGS),
    Component.MLFLOW: (Grant("artifacts", MLFLOW_PREFIX, READ + WRITE + DELETE),),
    Component.SERVING: (Grant("artifacts", MLFLOW_PREFIX, READ),),
}


def dag_grants(dag_id: str, declaration: DagDeclaration) -> tuple[Grant, ...]:
    """Return the grants of a DAG: its own folders, those that it declares, MLflow's artifacts and its logs."""
    return (
        *(Grant(bucket, f"{dag_id}/", READ + WRITE + DELETE, finds_missing=True) for bucket in BUCKETS_OF_DAGS),
        *(Grant(folder.bucket, folder.prefix, READ + WRITE + DELETE) for folder in declaration.writes),
        *(Grant(folder.bucket, folder.prefix, READ) for folder in declaration.reads),
        _MLFLOW,
        _LOGS,
    )


def job_grants(dag_id: str, declaration: DagDeclaration) -> tuple[Grant, ...]:
    """Return the grants of a job that a DAG runs outside the stack: it reads what the DAG reads, and its folder."""
    return (
        Grant("artifacts", f"{dag_id}/", READ + WRITE),
        *(Grant(folder.bucket, folder.prefix, READ) for folder in (*declaration.reads, *declaration.writes)),
    )


@dataclass(frozen=True)
class IdentityScope:
    """The pods that get the identities, and the resources that they use.

    Attributes:
        cluster_name: The name of the cluster.
        cluster_arn: The ARN of the cluster.
        bucket_arns: The ARNs of the buckets, by purpose.
        key_arn: The ARN of the key that encrypts the buckets.
        dags: What each DAG needs, by its ID.
        namespace: The namespace of Airflow, from which that of its tasks follows.
        prefix: The prefix of the keys of all their objects.
        external_connections: The Airflow connections to systems outside the stack.
    """

    cluster_name: pulumi.Output[str]
    cluster_arn: pulumi.Output[str]
    bucket_arns: Mapping[BucketPurpose, pulumi.Output[str]]
    key_arn: pulumi.Output[str]
    dags: Mapping[str, DagDeclaration]
    namespace: str = NAMESPACE
    prefix: str = ""
    external_connections: tuple[str, ...] = ()


class Identities(pulumi.ComponentResource):
    """The IAM roles of the components and of the DAGs.

    Attributes:
        role_arns: The ARN of each role, by service account.
        job_role_arns: The ARN of the role of the jobs that a DAG runs outside the stack, by DAG.
    """

    role_arns: Mapping[str, pulumi.Output[str]]
    job_role_arns: Mapping[str, pulumi.Output[str]]

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

        self.job_role_arns = {
            dag_id: self._create_job_role(dag_id, declaration)
            for dag_id, declaration in scope.dags.items()
            if sagemaker.trains_on_sagemaker(declaration, scope.external_connections)
        }
        self.role_arns = {
            **{one.service_account: self._create_component_role(one) for one in Component},
            **{
                account_name(dag_id): self._create_dag_role(dag_id, declaration)
                for dag_id, declaration in scope.dags.items()
            },
        }

        self.register_outputs({"role_arns": self.role_arns, "job_role_arns": self.job_role_arns})

    def _create_component_role(self, component: Component) -> pulumi.Output[str]:
        namespace = component.namespace(self._scope.namespace, tasks_namespace(self._scope.namespace))
        further = self._of_triggerer() if component is Component.TRIGGERER else []
        return self._create_role(component, component.service_account, namespace, GRANTS[component], further)

    def _of_triggerer(self) -> pulumi.Input[Sequence[Statement]]:
        dags, connections = self._scope.dags, self._scope.external_connections
        return self._jobs().apply(
            lambda jobs: [*publishing(*dags.values()), *sagemaker.of_triggerer(jobs, dags, connections)]
        )

    def _create_dag_role(self, dag_id: str, declaration: DagDeclaration) -> pulumi.Output[str]:
        further: pulumi.Input[Sequence[Statement]] = declared(declaration)
        if role_arn := self.job_role_arns.get(dag_id):
            further = pulumi.Output.all(jobs=self._jobs(), role_arn=role_arn).apply(
                lambda arns: [*declared(declaration), *sagemaker.of_dag(**arns)]
            )
        account, namespace = account_name(dag_id), tasks_namespace(self._scope.namespace)
        return self._create_role(account, account, namespace, dag_grants(dag_id, declaration), further)

    def _create_job_role(self, dag_id: str, declaration: DagDeclaration) -> pulumi.Output[str]:
        purpose, account = f"{account_name(dag_id)}-job", self._account
        by_sagemaker = account.id.apply(lambda number: trust(sagemaker.SERVICE, conditions=this_account(number)))
        role = aws.iam.Role(
            f"{purpose}-role",
            name=account.names.of(purpose, Limit.ROLE),
            assume_role_policy=by_sagemaker,
            permissions_boundary=account.permissions_boundary,
            opts=self._child_opts,
        )
        repository = account.names.path(declaration.image, Limit.REPOSITORY)
        aws.iam.RolePolicy(
            f"{purpose}-policy",
            name="job",
            role=role.name,
            policy=self._policy(
                job_grants(dag_id, declaration),
                account.id.apply(lambda number: sagemaker.of_job(account.region, number, repository)),
            ),
            opts=self._child_opts,
        )
        return role.arn

    def _jobs(self) -> pulumi.Output[str]:
        region, prefix = self._account.region, self._account.names.prefix
        return self._account.id.apply(lambda number: sagemaker.jobs_arn(region, number, prefix))

    def _create_role(
        self,
        purpose: str,
        service_account: str,
        namespace: str,
        grants: Sequence[Grant],
        further: pulumi.Input[Sequence[Statement]] = (),
    ) -> pulumi.Output[str]:
        scope = self._scope
        role = aws.iam.Role(
            f"{purpose}-role",
            name=self._account.names.of(purpose, Limit.ROLE),
            assume_role_policy=scope.cluster_arn.apply(lambda arn: pod_trust(service_account, arn, namespace)),
            permissions_boundary=self._account.permissions_boundary,
            opts=self._child_opts,
        )
        permissions = []
        if grants:
            permissions.append(
                aws.iam.RolePolicy(
                    f"{purpose}-policy",
                    name="buckets",
                    role=role.name,
                    policy=self._policy(grants, further),
                    opts=self._child_opts,
                )
            )
        aws.eks.PodIdentityAssociation(
            f"{purpose}-identity",
            cluster_name=scope.cluster_name,
            namespace=namespace,
            service_account=service_account,
            role_arn=role.arn,
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(depends_on=permissions)),
        )
        return role.arn

    def _policy(self, grants: Sequence[Grant], further: pulumi.Input[Sequence[Statement]]) -> pulumi.Output[str]:
        scope, region = self._scope, self._account.region
        arns = pulumi.Output.all(**dict(scope.bucket_arns), key=scope.key_arn)
        return pulumi.Output.all(arns, further).apply(
            lambda known: document(*statements(grants, known[0], known[0]["key"], region, scope.prefix), *known[1])
        )


def pod_trust(service_account: str, cluster_arn: str, namespace: str) -> str:
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
                "aws:RequestTag/kubernetes-service-account": service_account,
            }
        },
    )


def statements(
    grants: Sequence[Grant], buckets: Mapping[str, str], key_arn: str, region: str, prefix: str = ""
) -> list[Statement]:
    """Return the permissions of a role, given the ARNs of the buckets and the prefix of all keys."""
    grants = [replace(grant, prefix=f"{prefix}{grant.prefix}") for grant in grants]
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
