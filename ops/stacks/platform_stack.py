"""A stack with a settings file: it owns a database server, buckets and a registry, also for preview environments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.airflow_names import database_setup_name
from infra.errors import OperationError
from infra.images.pinned import RELEASE_FILE
from infra.settings import StackSettings
from ops.console import Echo
from ops.images.ecr import Ecr
from ops.images.node_images import ClusterNodes
from ops.images.oci import OciRegistry
from ops.pulumi.deployment import Deployment
from ops.pulumi.pending import settle
from ops.stacks.stack import Stack


@dataclass(frozen=True)
class DatabaseServer:
    """A database server as Jobs in its cluster reach it.

    Attributes:
        namespace: The namespace of the Secret.
        secret: The Secret with the administrator's password and the login of Airflow's database.
        image: An image with PostgreSQL's client programs.
        user_id: The user in that image.
    """

    namespace: str
    secret: str
    image: str
    user_id: int


class PlatformStack(Stack):
    """A stack with a settings file.

    Attributes:
        settings: Its settings.
        echo: Prints progress.
    """

    # Outputs that a preview environment needs. A stack deployed by an older version may lack them.
    needed_by_previews: Sequence[str] = ("database_host", "database_admin_password")
    settings: StackSettings

    def __init__(self, name: str, echo: Echo) -> None:
        super().__init__(name)
        self.echo = echo

    @property
    @abstractmethod
    def protected(self) -> bool:
        """Whether resources with data are protected from deletion."""

    @property
    @abstractmethod
    def has_cluster(self) -> bool:
        """Whether its cluster exists. On AWS the first deployment creates it."""

    @property
    @abstractmethod
    def has_registry(self) -> bool:
        """Whether its images are in a registry; otherwise they are loaded onto the nodes."""

    @abstractmethod
    def registry(self, *, previews: bool = False) -> Ecr | OciRegistry:
        """Return its registry, or that of its preview environments, which is separate.

        Raises:
            OperationError: The stack has no registry, or the current credentials belong to another account.
        """

    @abstractmethod
    def destination(self, *, previews: bool = False) -> ClusterNodes | Ecr | OciRegistry:
        """Return where its images, or those of its preview environments, are delivered.

        Raises:
            ContextError: The settings do not allow the current context.
            OperationError: The current credentials belong to another account.
        """

    @abstractmethod
    def object_store(self) -> AbstractContextManager[Any]:
        """Return a context with an S3 client for its buckets.

        Raises:
            OperationError: The object store cannot be reached.
        """

    @property
    def database_server(self) -> DatabaseServer:
        """Its database server.

        Raises:
            OperationError: The stack has no database server, or the request to the cluster failed.
        """
        prefix = database_setup_name("airflow")
        secrets = self.cluster.secrets(self.setup_namespace)
        secret = next((name for name in secrets if name.startswith(prefix)), None)
        if secret is None:
            raise OperationError(f"{self.name} has no database server: run `make deploy STACK={self.name}` first")
        return DatabaseServer(self.setup_namespace, secret, *self.database_client)

    @property
    @abstractmethod
    def database_client(self) -> tuple[str, int]:
        """An image with PostgreSQL's client programs, and its user."""

    @abstractmethod
    def database_bytes(self) -> int:
        """Return the size of the database server's disk.

        Raises:
            OperationError: The server cannot be found.
        """

    def preview_deployment(self, name: str) -> Deployment:
        """Return the Pulumi deployment of a preview environment, selected: from this working tree, with this key.

        Raises:
            OperationError: Pulumi's state cannot be read.
        """
        environment = {**self.deployment.environment, RELEASE_FILE: None}
        deployment = replace(self.deployment, stack=name, environment=environment)
        deployment.select()
        return deployment

    def prepare(self, deployment: Deployment) -> None:
        """Settle what interrupted commands left, before a deployment is changed.

        Raises:
            OperationError: The state cannot be read or changed, or a request to AWS or the cluster failed.
        """
        settle(deployment, self.look_up, self.echo)

    @abstractmethod
    def delete_resources(self, deployment: Deployment, namespaces: Sequence[str]) -> None:
        """Delete the resources of a deployment, of this stack or of a preview environment, and list leftovers.

        Raises:
            OperationError: A step failed, or resources are left.
        """

    @abstractmethod
    def destroy(self) -> None:
        """Delete everything of this stack, and list leftovers.

        Raises:
            OperationError: A step failed, or resources are left.
        """

    @abstractmethod
    def add_to_kubeconfig(self, file: Path | None) -> None:
        """Add its cluster to a kubeconfig file, by default the one that `kubectl` uses, and select it.

        Raises:
            OperationError: There is no cluster yet, the user has it already, or the AWS CLI is missing or failed.
        """

    @abstractmethod
    def report_leftovers(self) -> None:
        """Report that nothing of this stack is left.

        Raises:
            OperationError: Resources are left. They are printed first.
        """
