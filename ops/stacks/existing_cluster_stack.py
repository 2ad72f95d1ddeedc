"""A stack on a cluster that exists already, with its state and key in a folder of this clone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from infra import seaweedfs
from infra.errors import OperationError
from infra.existing_cluster.context import checked_context
from infra.existing_cluster_names import (
    GIT_REPOSITORY,
    GIT_SERVER,
    OBJECT_STORE,
    OBJECT_STORE_PORT,
    POSTGRES_IMAGE,
    POSTGRES_USER_ID,
    POSTGRES_VOLUME_GIB,
    platform_namespace,
)
from infra.images.content import PREVIEWS
from infra.settings import ExistingClusterSettings
from ops import own_s3
from ops.console import Echo
from ops.images.node_images import ClusterNodes
from ops.images.oci import OciRegistry
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis
from ops.kubernetes.kubectl import forwarded
from ops.loopback import LOOPBACK
from ops.pulumi import local_state
from ops.pulumi.deployment import Deployment
from ops.pulumi.pending import Created
from ops.pulumi.pulumi_cli import pulumi_command
from ops.stacks.object_lookup import look_up_object
from ops.stacks.platform_stack import PlatformStack
from ops.teardown import existing_cluster_teardown


class ExistingClusterStack(PlatformStack):
    """A stack on an existing cluster."""

    protected = False
    enforces_network_policies = False  # it depends on the network plugin
    database_client = (POSTGRES_IMAGE, POSTGRES_USER_ID)

    def __init__(self, name: str, settings: ExistingClusterSettings, echo: Echo) -> None:
        super().__init__(name, echo)
        self.settings: ExistingClusterSettings = settings

    @property
    def namespace(self) -> str:
        """The namespace of Airflow."""
        return self.settings.namespace

    @property
    def setup_namespace(self) -> str:
        """The namespace of the servers."""
        return platform_namespace(self.settings.namespace)

    @property
    def server_namespaces(self) -> Sequence[str]:
        """The namespace of the servers."""
        return (self.setup_namespace,)

    @property
    def git_server(self) -> str | None:
        """The pod that serves the DAG repository; None if the repository is outside the cluster."""
        return None if self.settings.dags else f"{GIT_SERVER}-0"

    @property
    def diagnosis(self) -> Diagnosis:
        """Finds problems in its namespaces."""
        if dags := self.settings.dags:
            repository, branch = dags.repository, dags.branch
        else:
            repository, branch = self._own_repository, self.name
        return Diagnosis(self.name, repository, branch, registry=self.settings.registry)

    @property
    def _own_repository(self) -> str:
        return f"git://{GIT_SERVER}.{self.setup_namespace}{GIT_REPOSITORY.removeprefix('/git')}"

    @cached_property
    def cluster(self) -> Cluster:
        """The current cluster."""
        return Cluster.of_context(checked_context(self.name, self.settings.contexts))

    @property
    def has_cluster(self) -> bool:
        """Whether its cluster exists."""
        return True

    @cached_property
    def deployment(self) -> Deployment:
        """Its Pulumi deployment, selected."""
        context = self.cluster.context
        self.cluster.check()
        program = pulumi_command(self.echo).command
        deployment = Deployment(
            self.name,
            program,
            local_state.environment(local_state.FOLDER),
            "passphrase",
            config_folder=local_state.FOLDER,
        )
        deployment.select()
        deployed = deployment.outputs().get("context", context)
        if deployed != context:
            raise OperationError(
                f"{self.name} is deployed in the cluster {deployed}, but the current context is {context}: switch with "
                f"`kubectl config use-context {deployed}`, or delete {local_state.FOLDER.name} if that cluster no "
                "longer exists"
            )
        return deployment

    @property
    def has_registry(self) -> bool:
        """Whether its images are in a registry."""
        return self.settings.registry is not None

    def registry(self, *, previews: bool = False) -> OciRegistry:
        """Return its registry, or that of its preview environments."""
        if self.settings.registry is None:
            raise OperationError(
                f"{self.name} has no registry, because its images are loaded onto its nodes: set airflow:registry in "
                f"Pulumi.{self.name}.yaml"
            )
        return OciRegistry(f"{self.settings.registry}/{PREVIEWS}" if previews else self.settings.registry)

    def destination(self, *, previews: bool = False) -> ClusterNodes | OciRegistry:
        """Return its nodes, or its registry."""
        if self.has_registry:
            return self.registry(previews=previews)
        return ClusterNodes(checked_context(self.name, self.settings.contexts))

    @contextmanager
    def object_store(self) -> Iterator[Any]:
        """Yield an S3 client, through a port-forward to the object store in the cluster."""
        keys, target = self.outputs["object_store_credentials"], f"service/{OBJECT_STORE}"
        with forwarded(self.cluster, self.setup_namespace, target, OBJECT_STORE_PORT) as port:
            yield own_s3.client(
                f"http://{LOOPBACK}:{port}",
                seaweedfs.REGION,
                keys["AWS_ACCESS_KEY_ID"],
                keys["AWS_SECRET_ACCESS_KEY"],
            )

    def database_bytes(self) -> int:
        """Return the size of the database server's volume."""
        return POSTGRES_VOLUME_GIB * 2**30

    def delete_resources(self, deployment: Deployment, namespaces: Sequence[str]) -> None:
        """Delete the resources of a deployment, and list leftovers."""
        self.prepare(deployment)
        objects = deployment.objects()
        deployment.run("destroy", "--yes", "--refresh")
        existing_cluster_teardown.report(deployment.stack, self.cluster, objects, namespaces, self.echo)

    def look_up(self, type_: str, inputs: Mapping[str, Any]) -> list[Created]:
        """Return what an interrupted creation may have left."""
        return look_up_object(self.cluster, type_, inputs)

    def destroy(self) -> None:
        """Delete everything of this stack, and its state."""
        self.delete_resources(self.deployment, self.namespaces)
        self.deployment.run("stack", "rm", "--yes", "--preserve-config")

    def add_to_kubeconfig(self, file: Path | None) -> None:  # noqa: ARG002 - it is there
        """Refuse: the user's kubeconfig has the cluster."""
        raise OperationError(
            f"your kubeconfig already contains the cluster of {self.name}: select it with `kubectl config use-context`"
        )

    def report_leftovers(self) -> None:
        """Report that nothing of this stack is left in its cluster."""
        existing_cluster_teardown.report(self.name, self.cluster, (), self.namespaces, self.echo)
