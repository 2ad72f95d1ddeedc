"""A preview environment of a base stack on an existing cluster."""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as kubernetes

from infra import airflow_namespace
from infra.airflow_platform import MAINTENANCE_DATABASE, DagSource, DatabaseAccess, Platform
from infra.existing_cluster import database, git_server, object_store
from infra.existing_cluster.context import checked_context
from infra.existing_cluster.platform import create_credentials
from infra.existing_cluster.server import ingress_policy
from infra.existing_cluster_names import (
    GIT_SERVER,
    OBJECT_STORE,
    OBJECT_STORE_PORT,
    POSTGRES_IMAGE,
    platform_namespace,
)
from infra.images.content import ON_NODES, PREVIEWS
from infra.previews import dags_key, images
from infra.previews.base_outputs import Outputs, buckets_of
from infra.previews.databases import Databases
from infra.previews.settings import PreviewSettings
from infra.settings import ExistingClusterSettings

# The base's servers that an environment uses, with their ports and clients.
CLIENTS = {
    database.SERVER: (database.PORT, database.clients),
    OBJECT_STORE: (OBJECT_STORE_PORT, object_store.clients),
    GIT_SERVER: (git_server.PORT, git_server.clients),
}


def create(settings: PreviewSettings, base: ExistingClusterSettings, outputs: Outputs) -> Platform:
    """Create the environment's own resources; `outputs` returns an output of the base.

    Raises:
        ContextError: No Kubernetes context is selected, or the base may not use it.
    """
    stack, servers = settings.stack, platform_namespace(base.namespace)
    provider = kubernetes.Provider("kubernetes", context=checked_context(settings.base, base.contexts))
    opts = pulumi.ResourceOptions(provider=provider)

    used = [name for name in CLIENTS if name != GIT_SERVER or base.dags is None]
    admissions = Admissions("admissions", stack, servers, used, opts)
    port = pulumi.Output.from_input(database.PORT)
    password = outputs("database_admin_password")
    admin = DatabaseAccess(outputs("database_host"), port, MAINTENANCE_DATABASE, database.ADMIN, password)
    databases = Databases("databases", stack, admin, servers, POSTGRES_IMAGE, opts)
    namespace, tasks = airflow_namespace.create(
        stack, pulumi.ResourceOptions(provider=provider, depends_on=[admissions, databases])
    )
    keys = outputs("object_store_credentials")
    credentials = create_credentials(namespace, tasks, keys, opts)
    if base.dags:
        dags_key.copy(base.dags, base.namespace, namespace, opts)

    registry = f"{base.registry}/{PREVIEWS}" if base.registry else ON_NODES
    return Platform(
        provider=provider,
        namespace=namespace,
        tasks_namespace=tasks,
        airflow_database=databases.airflow,
        mlflow_database=databases.mlflow,
        features_database=databases.features,
        buckets=buckets_of(outputs, settings.prefix),
        environment=object_store.environment(f"{OBJECT_STORE}.{servers}.svc"),
        credentials_secret=credentials,
        object_store_keys=keys,
        images={
            name: pulumi.Output.from_input(f"{registry}/{name}:{tag}")
            for name, tag in images.tags(settings.base).items()
        },
        storage_class=None,
        dags=_dags(settings, base, servers),
        node_pools={},
        model_approval=base.model_approval,
        names_in_policies=False,
        guest=True,
    )


def _dags(settings: PreviewSettings, base: ExistingClusterSettings, servers: str) -> DagSource:
    if base.dags:
        return DagSource(**base.dags.model_dump() | {"branch": settings.branch})
    # On the base's Git server, the branch has the environment's name, which is unique.
    return DagSource(git_server.address(f"{GIT_SERVER}.{servers}.svc"), settings.stack, git_server.FOLDER)


class Admissions(pulumi.ComponentResource):
    """The network policies that admit the environment's pods to the base's database, object store and Git server."""

    def __init__(
        self, name: str, stack: str, namespace: str, servers: Sequence[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Create one policy for each server, in the servers' namespace."""
        super().__init__("airflow:preview:Admissions", name, opts=opts)
        for server in servers:
            port, clients = CLIENTS[server]
            kubernetes.networking.v1.NetworkPolicy(
                f"{stack}-to-{server}",
                metadata={"name": f"{stack}-to-{server}", "namespace": namespace},
                spec=ingress_policy(server, port, clients(stack)),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})
