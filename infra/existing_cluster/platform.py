"""The whole platform on an existing cluster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import airflow_namespace
from infra.airflow_platform import DagSource, Platform
from infra.existing_cluster.context import checked_context
from infra.existing_cluster.database import Database
from infra.existing_cluster.git_server import GitServer
from infra.existing_cluster.object_store import ObjectStore
from infra.existing_cluster_names import platform_namespace
from infra.images import content, pinned
from infra.lineage import Lineage
from infra.settings import ExistingClusterSettings

CREDENTIALS_SECRET = "object-store"  # noqa: S105 - its name


def create(stack: str, settings: ExistingClusterSettings) -> tuple[Platform, Mapping[str, Any]]:
    """Create the platform; return it and the stack's outputs.

    Raises:
        ContextError: No Kubernetes context is selected, or the stack may not use it.
        ImageError: The release in RELEASE_FILE is invalid or belongs to another stack.
    """
    context = checked_context(stack, settings.contexts)
    # The provider refers to the context by name, so that Pulumi's state contains no cluster credentials.
    provider = kubernetes.Provider("kubernetes", context=context)
    in_cluster = pulumi.ResourceOptions(provider=provider)
    versions = pinned.versions(stack, Path(pulumi.get_root_directory()))
    registry = settings.registry or content.ON_NODES
    images = {name: f"{registry}/{name}:{version}" for name, version in versions.items()}
    namespace, storage_class = settings.namespace, settings.storage_class

    server_namespace = PlatformNamespace("platform-namespace", platform_namespace(namespace), opts=in_cluster)
    database = Database("database", server_namespace.name, namespace, storage_class, opts=in_cluster)
    store = ObjectStore("object-store", server_namespace.name, namespace, storage_class, opts=in_cluster)
    servers: list[pulumi.Resource] = [database, store]
    if settings.dags:
        dags = DagSource(**settings.dags.model_dump())
    else:
        git = GitServer(
            "git-server", server_namespace.name, namespace, stack, images["airflow"], storage_class, opts=in_cluster
        )
        servers.append(git)
        dags = git.dags
    airflow, tasks = airflow_namespace.create(namespace, pulumi.ResourceOptions(provider=provider, depends_on=servers))
    credentials = create_credentials(airflow, tasks, store.credentials, in_cluster)

    platform = Platform(
        provider=provider,
        namespace=airflow,
        tasks_namespace=tasks,
        airflow_database=database.airflow,
        mlflow_database=database.mlflow,
        features_database=database.features,
        buckets=store.buckets,
        environment=store.environment,
        credentials_secret=credentials,
        object_store_keys=store.credentials,
        images={name: pulumi.Output.from_input(image) for name, image in images.items()},
        storage_class=pulumi.Output.from_input(storage_class) if storage_class else None,
        dags=dags,
        node_pools={},
        model_approval=settings.model_approval,
        names_in_policies=False,
        lineage=Lineage(namespace=stack, **settings.lineage.model_dump()) if settings.lineage else None,
        wandb=settings.wandb,
        external_connections=settings.external_connections,
        external_prefix=stack,
    )
    outputs = {
        "context": context,
        "namespace": platform.namespace,
        "platform_namespace": server_namespace.name,
        "data_bucket": platform.buckets.data,
        "artifacts_bucket": platform.buckets.artifacts,
        "logs_bucket": platform.buckets.logs,
        "images": images,
        "database_host": database.admin.host,
        "database_admin_password": database.admin.password,
        "object_store_credentials": store.credentials,
    }
    return platform, outputs


def create_credentials(
    airflow: pulumi.Output[str],
    tasks: pulumi.Output[str],
    credentials: pulumi.Input[Mapping[str, pulumi.Input[str]]],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[str]:
    """Create a Secret with the object store's keys in the namespaces of Airflow and of tasks; return its name."""
    secret, _ = (
        kubernetes.core.v1.Secret(
            resource,
            metadata={"name": CREDENTIALS_SECRET, "namespace": namespace},
            string_data=credentials,
            opts=opts,
        )
        for resource, namespace in ((CREDENTIALS_SECRET, airflow), (f"tasks-{CREDENTIALS_SECRET}", tasks))
    )
    return secret.metadata.name.apply(str)


class PlatformNamespace(pulumi.ComponentResource):
    """The namespace of the servers that Airflow uses; all traffic is denied unless a server's policy allows it.

    Attributes:
        name: Its name.
    """

    name: pulumi.Output[str]

    def __init__(self, name: str, namespace: str, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the namespace and the policy that denies all traffic in it."""
        super().__init__("airflow:existing_cluster:PlatformNamespace", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)

        self.name = self._create_namespace(namespace)
        self._create_default_deny()

        self.register_outputs({"name": self.name})

    def _create_namespace(self, namespace: str) -> pulumi.Output[str]:
        made = kubernetes.core.v1.Namespace(
            "platform", metadata={"name": namespace, "labels": airflow_namespace.POD_SECURITY}, opts=self._child_opts
        )
        return made.metadata.name.apply(str)

    def _create_default_deny(self) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            "default-deny",
            metadata={"name": "default-deny", "namespace": self.name},
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=self._child_opts,
        )
