"""The Airflow of a stack in its cluster, for commands that do not need Pulumi's state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.airflow_platform import NAMESPACE
from infra.errors import OperationError
from infra.existing_cluster.context import checked_context
from infra.existing_cluster_names import GIT_REPOSITORY, GIT_SERVER, platform_namespace
from infra.preview_names import is_preview
from infra.previews.settings import PreviewSettings, load_preview
from infra.settings import ExistingClusterSettings, Settings, load
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis
from ops.pulumi.aws_deployment import AwsDeployment

# EKS starts a node in one or two minutes, or tries another instance type if the first is not available.
NODE_SECONDS = 300


@dataclass(frozen=True)
class Installation:
    """The Airflow of a stack: its cluster, namespaces and Git server.

    Attributes:
        stack: The stack.
        cluster: Its cluster.
        namespace: Airflow's namespace.
        namespaces: All namespaces of the stack.
        diagnosis: Finds problems in these namespaces.
        git_server: The pod that serves the DAG repository; None if the repository is outside the cluster.
    """

    stack: str
    cluster: Cluster
    namespace: str
    namespaces: Sequence[str]
    diagnosis: Diagnosis
    git_server: str | None


def installation_of(stack: str, echo: Echo) -> Installation:
    """Return a stack's Airflow in its cluster.

    Raises:
        SettingsError: The settings are missing or invalid.
        ContextError: The settings do not allow the current context.
        OperationError: There is no cluster, or it does not respond.
    """
    if is_preview(stack):
        preview = load_preview(stack)
        return of_preview(preview, installation_of(preview.base, echo))
    settings = load(stack)
    if isinstance(settings, ExistingClusterSettings):
        cluster = Cluster.of_context(checked_context(stack, settings.contexts))
        found = on_existing_cluster(stack, settings, cluster)
    else:
        outputs = AwsDeployment.of(stack, echo).outputs()
        if "kubeconfig" not in outputs:
            raise OperationError(f"{stack} has no cluster yet: run `make deploy STACK={stack}` first")
        found = on_aws(stack, settings, Cluster.of_access(json.loads(outputs["kubeconfig"])))
    found.cluster.check()
    return found


def on_existing_cluster(stack: str, settings: ExistingClusterSettings, cluster: Cluster) -> Installation:
    """Return a stack's Airflow on an existing cluster."""
    servers = platform_namespace(settings.namespace)
    if settings.dags:
        repository, branch, git_server = settings.dags.repository, settings.dags.branch, None
    else:
        repository = f"git://{GIT_SERVER}.{servers}{GIT_REPOSITORY.removeprefix('/git')}"
        branch, git_server = stack, f"{GIT_SERVER}-0"
    return Installation(
        stack,
        cluster,
        settings.namespace,
        (servers, settings.namespace),
        Diagnosis(stack, repository, branch, registry=settings.registry),
        git_server,
    )


def of_preview(preview: PreviewSettings, base: Installation) -> Installation:
    """Return the Airflow of a preview environment, which shares its base's cluster and servers."""
    # On the base's own Git server the branch is named after the environment, so names cannot collide.
    branch = preview.stack if base.git_server else preview.branch
    return replace(
        base,
        stack=preview.stack,
        namespace=preview.stack,
        namespaces=(*base.namespaces[:-1], preview.stack),
        diagnosis=replace(base.diagnosis, branch=branch),
    )


def on_aws(stack: str, settings: Settings, cluster: Cluster) -> Installation:
    """Return a stack's Airflow on AWS."""
    diagnosis = Diagnosis(stack, settings.dags.repository, settings.dags.branch, NODE_SECONDS)
    return Installation(stack, cluster, NAMESPACE, (NAMESPACE,), diagnosis, None)
