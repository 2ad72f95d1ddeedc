"""A preview environment of a base stack on AWS."""

from dataclasses import replace

import pulumi
import pulumi_kubernetes as kubernetes

from infra import airflow_namespace
from infra.airflow_names import NAMESPACE
from infra.airflow_platform import MAINTENANCE_DATABASE, DagSource, DatabaseAccess, Platform
from infra.aws import certificates, database, names
from infra.aws.account import Account
from infra.aws.dag_pools import check_dag_pools
from infra.aws.identity import Identities, IdentityScope
from infra.aws.node_pools import taint_keys
from infra.dag_declarations import declarations
from infra.previews import dags_key, images
from infra.previews.base_outputs import Outputs, buckets_of
from infra.previews.databases import Databases
from infra.previews.settings import PreviewSettings
from infra.settings import Settings


def create(settings: PreviewSettings, base: Settings, outputs: Outputs) -> Platform:
    """Create the environment's own resources; `outputs` returns an output of the base.

    Raises:
        DagPoolError: A DAG declares a node pool or GPUs that the base does not have.
    """
    stack, dags = settings.stack, declarations()
    check_dag_pools(settings.base, base.node_pools, dags)
    account = replace(Account.of(stack, base), permissions_boundary=base.preview_permissions_boundary)
    provider = kubernetes.Provider(
        "kubernetes", kubeconfig=outputs("kubeconfig"), cluster_identifier=outputs("cluster_arn")
    )
    in_cluster = pulumi.ResourceOptions(provider=provider)

    buckets = buckets_of(outputs, settings.prefix)
    scope = IdentityScope(
        cluster_name=outputs("cluster_name"),
        cluster_arn=outputs("cluster_arn"),
        bucket_arns={
            "data": _arn(buckets.data),
            "artifacts": _arn(buckets.artifacts),
            "logs": _arn(buckets.logs),
        },
        key_arn=outputs("data_key_arn"),
        dags=dags,
        namespace=stack,
        prefix=settings.prefix,
    )
    identities = Identities("identities", account, scope, pulumi.ResourceOptions(provider=account.provider))
    port = pulumi.Output.from_input(database.PORT)
    password = outputs("database_admin_password")
    authorities = certificates.of_region(base.region)
    admin = DatabaseAccess(outputs("database_host"), port, MAINTENANCE_DATABASE, database.ADMIN, password, authorities)
    databases = Databases("databases", stack, admin, names.SETUP_NAMESPACE, names.POSTGRES_CLIENT_IMAGE, in_cluster)
    namespace, tasks = airflow_namespace.create(
        stack, pulumi.ResourceOptions(provider=provider, depends_on=[identities, databases])
    )
    dags_key.copy(base.dags, NAMESPACE, namespace, in_cluster)

    return Platform(
        provider=provider,
        namespace=namespace,
        tasks_namespace=tasks,
        airflow_database=databases.airflow,
        mlflow_database=databases.mlflow,
        features_database=databases.features,
        buckets=buckets,
        environment={"AWS_REGION": base.region},
        credentials_secret=None,
        object_store_keys={},
        images={
            name: pulumi.Output.format("{0}:{1}", outputs("preview_image_repositories")[name], tag)
            for name, tag in images.tags(settings.base).items()
        },
        storage_class=None,
        dags=DagSource(**base.dags.model_dump() | {"branch": settings.branch}),
        node_pools=taint_keys(base.node_pools),
        model_approval=base.model_approval,
        names_in_policies=True,
        guest=True,
    )


def _arn(bucket: pulumi.Output[str]) -> pulumi.Output[str]:
    return pulumi.Output.format("arn:aws:s3:::{0}", bucket)
