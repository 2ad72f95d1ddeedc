"""A stack that Pulumi builds on AWS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from infra.airflow_names import NAMESPACE
from infra.aws.names import POSTGRES_CLIENT_IMAGE, POSTGRES_CLIENT_USER_ID, SETUP_NAMESPACE, Limit, Names
from infra.errors import OperationError
from infra.settings import PROJECT, Settings
from infra.settings.placeholders import placeholders
from ops.aws.account import Account, account_of, aws_errors
from ops.aws.eks_cluster import EksCluster
from ops.console import Echo
from ops.images.ecr import Ecr
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis
from ops.pulumi.backend import Backend, backend_of
from ops.pulumi.bootstrap import bootstrap, bucket_exists
from ops.pulumi.deployment import Deployment, has_key
from ops.pulumi.image_repositories import create_repositories
from ops.pulumi.pending import Created
from ops.pulumi.pulumi_cli import pulumi_command
from ops.stacks.aws_lookup import look_up
from ops.stacks.object_lookup import look_up_object
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.restored_database import adopt_restored
from ops.teardown import aws_teardown
from ops.teardown.kept import arns_in_state
from ops.teardown.reserved_names import free_names

# EKS starts a node in one or two minutes, or tries another instance type if the first is not available.
NODE_SECONDS = 300


# Drops the objects of a cluster that is gone from the state, instead of failing to read them:
# https://www.pulumi.com/registry/packages/kubernetes/api-docs/provider/#deleteunreachable_yaml
DELETE_UNREACHABLE = {"PULUMI_K8S_DELETE_UNREACHABLE": "true"}


class AwsStack(PlatformStack):
    """A stack on AWS."""

    namespace = NAMESPACE
    server_namespaces = ()
    enforces_network_policies = True  # EKS Auto Mode does
    setup_namespace = SETUP_NAMESPACE
    git_server = None
    has_registry = True
    needed_by_previews = (*PlatformStack.needed_by_previews, "preview_image_repositories")
    database_client = (POSTGRES_CLIENT_IMAGE, POSTGRES_CLIENT_USER_ID)

    def __init__(self, name: str, settings: Settings, echo: Echo) -> None:
        super().__init__(name, echo)
        self.settings: Settings = settings

    @property
    def protected(self) -> bool:
        """Whether resources with data are protected from deletion."""
        return self.settings.protect

    @property
    def diagnosis(self) -> Diagnosis:
        """Finds problems in its namespaces."""
        return Diagnosis(self.name, self.settings.dags.repository, self.settings.dags.branch, NODE_SECONDS)

    @cached_property
    def account(self) -> Account:
        """Its account.

        Raises:
            OperationError: The settings contain placeholders, or the credentials are missing, unusable or of another
                account.
        """
        if found := list(placeholders(self.settings)):
            raise OperationError(f"Pulumi.{self.name}.yaml contains placeholders: {'; '.join(found)}")
        return account_of(self.name, self.settings)

    @property
    def backend(self) -> Backend:
        """Where Pulumi keeps its state, and the key of the secrets in it."""
        return backend_of(self.name, self.account.id, self.account.region)

    @cached_property
    def deployment(self) -> Deployment:
        """Its Pulumi deployment, selected."""
        self.check_bootstrapped()
        deployment = self._deployment
        deployment.select()
        return deployment

    @cached_property
    def eks_cluster(self) -> EksCluster | None:
        """Its EKS cluster as it exists now; the outputs of an interrupted command may be those of an older one."""
        return EksCluster.found(self.account, self._names.of("cluster", Limit.CLUSTER))

    @property
    def _names(self) -> Names:
        return Names(PROJECT, self.name)

    @property
    def _deployment(self) -> Deployment:
        program, backend = pulumi_command(self.echo).command, self.backend
        gone = {} if self.has_cluster else DELETE_UNREACHABLE
        return Deployment(self.name, program, {**backend.environment, **gone}, backend.secrets_provider)

    def bootstrap(self) -> None:
        """Create what deployments need: Pulumi's state, its key, also in the stack file, and the image repositories.

        Raises:
            OperationError: AWS refused a request, or Pulumi failed.
        """
        bootstrap(self.account, self.backend, self.echo)
        deployment = self._deployment
        deployment.select()
        deployment.keep_key()
        create_repositories(deployment, self.settings, self.echo)

    def check_bootstrapped(self) -> None:
        """Check that Pulumi's state exists, and that the stack file contains the key.

        Raises:
            OperationError: One of them is missing, or AWS refused the request.
        """
        bucket = self.backend.bucket
        with aws_errors():
            exists = bucket_exists(self.account, bucket)
        if not exists:
            raise OperationError(f"s3://{bucket} does not exist: run `make bootstrap STACK={self.name}` first")
        file = self._deployment.stack_file
        if not has_key(file):
            raise OperationError(
                f"{file.name} lacks the stack's encrypted key: pull the commit that contains it, or "
                f"run `make bootstrap STACK={self.name}`, which writes it"
            )

    @property
    def has_cluster(self) -> bool:
        """Whether its cluster exists."""
        return self.eks_cluster is not None

    @cached_property
    def cluster(self) -> Cluster:
        """Its cluster."""
        return Cluster.of_access(self._existing_cluster.access(self.settings.deploy_role_arn))

    @property
    def _existing_cluster(self) -> EksCluster:
        if self.eks_cluster is None:
            raise OperationError(f"{self.name} has no cluster yet: run `make deploy STACK={self.name}` first")
        return self.eks_cluster

    def registry(self, *, previews: bool = False) -> Ecr:
        """Return its ECR repositories, or those of its preview environments."""
        return Ecr(self.name, self.account, previews=previews)

    destination = registry

    @contextmanager
    def object_store(self) -> Iterator[Any]:
        """Yield an S3 client."""
        yield self.account.client("s3")

    def database_bytes(self) -> int:
        """Return the size of the database server's disk."""
        name = self._names.of("database", Limit.DATABASE)
        with aws_errors():
            found = self.account.client("rds").describe_db_instances(DBInstanceIdentifier=name)
        return int(found["DBInstances"][0]["AllocatedStorage"]) * 2**30

    def look_up(self, type_: str, inputs: Mapping[str, Any]) -> list[Created]:
        """Return what an interrupted creation may have left."""
        if type_.startswith("kubernetes:"):
            return look_up_object(self.cluster, type_, inputs) if self.has_cluster else []
        return look_up(self.account, type_, inputs)

    def prepare(self, deployment: Deployment) -> None:
        """Settle what interrupted commands and a restored backup left, and free the names that a deployment needs."""
        adopt_restored(self.account, self._names, deployment, self.echo)
        super().prepare(deployment)
        free_names(self.account, self._names, deployment.ids(), self.echo)

    def delete_resources(self, deployment: Deployment, namespaces: Sequence[str]) -> None:  # noqa: ARG002 - the report covers the account
        """Delete the resources of a preview environment, and list leftovers."""
        self.prepare(deployment)
        deployment.run("destroy", "--yes", "--skip-preview", "--refresh")
        aws_teardown.report(self.account, deployment.stack, self.echo)

    def destroy(self) -> None:
        """Delete everything but the data of a protected stack, and list what is kept and left."""
        environment = {**self.deployment.environment, **DELETE_UNREACHABLE}
        deployment = replace(self.deployment, environment=environment)
        self.prepare(deployment)
        access = self.eks_cluster.access(self.settings.deploy_role_arn) if self.eks_cluster else None
        aws_teardown.destroy(self.account, deployment, access, self.echo, protected=self.protected)
        aws_teardown.report(self.account, self.name, self.echo, arns_in_state(deployment.resources()))

    def add_to_kubeconfig(self, file: Path | None) -> None:
        """Add its cluster to a kubeconfig file with the AWS CLI, and select it."""
        name = self._existing_cluster.name
        role, region = self.settings.deploy_role_arn, self.settings.region
        arguments = ["--name", name, "--region", region, *(["--role-arn", role] if role else [])]
        command = ["aws", "eks", "update-kubeconfig", *arguments, *(["--kubeconfig", str(file)] if file else [])]
        try:
            code = subprocess.run(command, check=False).returncode
        except FileNotFoundError:
            raise OperationError(
                "the AWS CLI is not on PATH: install it, see "
                "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
            ) from None
        if code != 0:
            raise OperationError("`aws eks update-kubeconfig` failed: see the output above")

    def report_leftovers(self) -> None:
        """Report that nothing of this stack is left in its account."""
        aws_teardown.report(self.account, self.name, self.echo)
