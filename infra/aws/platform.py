"""The whole platform in an AWS account, from the network up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from infra import airflow_namespace
from infra.airflow_names import NAMESPACE
from infra.airflow_platform import Buckets, DagSource, Platform
from infra.aws.account import Account
from infra.aws.alarms import Alarms
from infra.aws.cluster import Cluster
from infra.aws.dag_pools import check_dag_pools
from infra.aws.database import Database
from infra.aws.encryption import Encryption
from infra.aws.identity import Identities, IdentityScope
from infra.aws.network import Network
from infra.aws.node_pools import NodePools, taint_keys
from infra.aws.readers import Readers
from infra.aws.registry import Registry
from infra.aws.storage import Storage
from infra.dag_declarations import declarations
from infra.images import pinned
from infra.lineage import Lineage
from infra.settings import Settings


def create(stack: str, settings: Settings) -> tuple[Platform, Mapping[str, Any]]:
    """Create the platform; return it and the stack's outputs.

    Raises:
        ImageError: The release in RELEASE_FILE is invalid or belongs to another stack.
        DagPoolError: A DAG declares a node pool or GPUs that the stack does not have.
    """
    dags = declarations()
    check_dag_pools(stack, settings.node_pools, dags)
    account = Account.of(stack, settings)
    versions = pinned.versions(stack, Path(pulumi.get_root_directory()))
    in_account = pulumi.ResourceOptions(provider=account.provider)

    encryption = Encryption("encryption", account, alarms=settings.alarms is not None, opts=in_account)
    registry = Registry.of(stack, settings, account, versions)
    storage = Storage("storage", settings.storage, account, encryption.data_key_arn, opts=in_account)
    network = Network("network", settings.network, account, encryption.cluster_key_arn, opts=in_account)
    cluster = Cluster(
        "cluster",
        settings.cluster,
        account,
        network,
        encryption.cluster_key_arn,
        settings.deploy_role_arn,
        opts=in_account,
    )
    node_pools = NodePools("node-pools", settings.node_pools, account, cluster, network, opts=in_account)
    database = Database(
        "database",
        settings.database,
        account,
        network,
        cluster,
        node_pools,
        encryption.data_key_arn,
        encryption.cluster_key_arn,
        opts=in_account,
    )
    if settings.alarms:
        Alarms(
            "alarms",
            settings.alarms,
            account,
            network,
            database,
            settings.database,
            settings.node_pools,
            encryption.cluster_key_arn,
            opts=in_account,
        )
    scope = IdentityScope(
        cluster_name=cluster.name,
        cluster_arn=cluster.arn,
        bucket_arns={"data": storage.data.arn, "artifacts": storage.artifacts.arn, "logs": storage.logs.arn},
        key_arn=encryption.data_key_arn,
        dags=dags,
        external_connections=settings.external_connections,
    )
    identities = Identities("identities", account, scope, opts=in_account)
    after_nodes = pulumi.ResourceOptions(provider=cluster.provider, depends_on=[node_pools])
    Readers("readers", settings.cluster.reader_arns, cluster.name, after_nodes, opts=in_account)
    namespace, tasks = airflow_namespace.create(
        NAMESPACE,
        pulumi.ResourceOptions(provider=cluster.provider, depends_on=[node_pools, database, identities]),
    )

    platform = Platform(
        provider=cluster.provider,
        namespace=namespace,
        tasks_namespace=tasks,
        airflow_database=database.airflow,
        mlflow_database=database.mlflow,
        features_database=database.features,
        buckets=Buckets(storage.data.name, storage.artifacts.name, storage.logs.name),
        environment={"AWS_REGION": settings.region},
        credentials_secret=None,
        object_store_keys={},
        images=registry.images,
        storage_class=node_pools.storage_class,
        dags=DagSource(**settings.dags.model_dump()),
        node_pools=taint_keys(settings.node_pools),
        model_approval=settings.model_approval,
        names_in_policies=True,
        lineage=Lineage(namespace=stack, **settings.lineage.model_dump()) if settings.lineage else None,
        wandb=settings.wandb,
        external_connections=settings.external_connections,
        external_prefix=account.names.prefix,
    )
    outputs = {
        "region": settings.region,
        "account_id": account.id,
        "vpc_id": network.vpc_id,
        "private_subnet_ids": network.private_subnet_ids,
        "cluster_name": cluster.name,
        "cluster_arn": cluster.arn,
        "kubeconfig": cluster.kubeconfig,
        "namespace": platform.namespace,
        "data_bucket": platform.buckets.data,
        "artifacts_bucket": platform.buckets.artifacts,
        "logs_bucket": platform.buckets.logs,
        "database_host": database.airflow.host,
        "database_admin_password": database.admin.password,
        "database_secret_arns": database.secret_arns,
        "data_key_arn": encryption.data_key_arn,
        "image_repositories": registry.urls,
        "preview_image_repositories": registry.preview_urls,
        "role_arns": identities.role_arns,
        "job_role_arns": identities.job_role_arns,
    }
    return platform, outputs
