"""The stack in whose cluster preview environments run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from infra.aws import database as rds
from infra.errors import OperationError
from infra.existing_cluster_names import platform_namespace
from infra.images.pinned import RELEASE_FILE
from infra.settings import ExistingClusterSettings, StackSettings, load
from ops.airflow.installation import Installation, on_aws, on_existing_cluster
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.previews.records import Records
from ops.previews.rules import check_base
from ops.pulumi.aws_deployment import AwsDeployment
from ops.pulumi.backend import backend_of
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment

# Outputs that an environment needs. A base deployed by an older version may lack them.
NEEDED = ("database_host", "database_admin_password")
NEEDED_ON_AWS = (*NEEDED, "preview_image_repositories")


@dataclass(frozen=True)
class Base:
    """A stack that has preview environments.

    Attributes:
        stack: The stack's name.
        deployment: Its Pulumi deployment.
        installation: Its Airflow in its cluster.
        outputs: Its Pulumi outputs.
    """

    stack: str
    deployment: AwsDeployment | ExistingClusterDeployment
    installation: Installation
    outputs: dict[str, Any]

    @classmethod
    def of(cls, stack: str, echo: Echo) -> Base:
        """Load the base and check its cluster.

        Raises:
            SettingsError: The settings are missing or invalid.
            ContextError: The settings do not allow the current context.
            OperationError: The stack does not allow preview environments, or is not deployed.
        """
        settings = load(stack)
        check_base(stack, settings)
        deployment: AwsDeployment | ExistingClusterDeployment
        if isinstance(settings, ExistingClusterSettings):
            deployment = ExistingClusterDeployment.of(stack, settings, echo)
            outputs = _outputs_of(deployment)
            installation = on_existing_cluster(stack, settings, deployment.cluster)
        else:
            deployment = AwsDeployment.of(stack, echo)
            outputs = _outputs_of(deployment)
            installation = on_aws(stack, settings, Cluster.of_access(json.loads(outputs["kubeconfig"])))
        installation.cluster.check()
        return cls(stack, deployment, installation, outputs)

    @property
    def settings(self) -> StackSettings:
        """The settings of the stack."""
        return self.deployment.settings

    @property
    def setup_namespace(self) -> str:
        """The namespace where databases are created, and where only that Job reads the administrator's password."""
        if isinstance(self.settings, ExistingClusterSettings):
            return platform_namespace(self.settings.namespace)
        return rds.SETUP_NAMESPACE

    @property
    def records(self) -> Records:
        """The records of its environments."""
        return Records(self.installation.cluster, self.setup_namespace)

    def deployment_of(self, stack: str) -> AwsDeployment | ExistingClusterDeployment:
        """Return the Pulumi deployment of an environment: in its base's cluster, from this working tree.

        Raises:
            OperationError: Pulumi's state cannot be read.
        """
        environment = {**self.deployment.environment, RELEASE_FILE: None}
        deployment = replace(self.deployment, stack=stack, environment=environment)
        if isinstance(deployment, ExistingClusterDeployment):
            deployment.select()
        else:
            account = deployment.account
            key = backend_of(self.stack, account.id, account.region).secrets_provider
            deployment.run("stack", "select", "--create", "--secrets-provider", key)
        return deployment


def _outputs_of(deployment: AwsDeployment | ExistingClusterDeployment) -> dict[str, Any]:
    outputs = deployment.outputs()
    needed = NEEDED_ON_AWS if isinstance(deployment, AwsDeployment) else NEEDED
    if missing := [name for name in needed if name not in outputs]:
        why = "was deployed by a version without preview environments" if outputs else "is not deployed"
        raise OperationError(
            f"{deployment.stack} {why} (its outputs have no {missing[0]}): run `make deploy STACK={deployment.stack}`"
        )
    return outputs
