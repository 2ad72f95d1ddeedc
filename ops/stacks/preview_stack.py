"""The stack of a preview environment, which shares the cluster and the servers of its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from infra.previews.settings import PreviewSettings
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis
from ops.pulumi.deployment import Deployment
from ops.pulumi.pending import Created
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.stack import Stack


class PreviewStack(Stack):
    """The stack of a preview environment.

    Attributes:
        base: The stack whose cluster, database server and buckets it uses.
        settings: Its settings.
    """

    def __init__(self, base: PlatformStack, settings: PreviewSettings) -> None:
        super().__init__(settings.stack)
        self.base = base
        self.settings = settings

    @property
    def namespace(self) -> str:
        """The namespace of Airflow, named after the environment."""
        return self.name

    @property
    def server_namespaces(self) -> Sequence[str]:
        """The namespace of the base's servers if they run in the cluster; else empty."""
        return self.base.server_namespaces

    @property
    def enforces_network_policies(self) -> bool:
        """Whether its base's cluster is known to enforce network policies."""
        return self.base.enforces_network_policies

    @property
    def setup_namespace(self) -> str:
        """The namespace where its base's databases are created."""
        return self.base.setup_namespace

    @property
    def git_server(self) -> str | None:
        """The pod of its base that serves the DAG repository; None if the repository is outside the cluster."""
        return self.base.git_server

    @property
    def diagnosis(self) -> Diagnosis:
        """Finds problems in its namespaces."""
        # On the base's own Git server the branch is named after the environment, so names cannot collide.
        branch = self.name if self.git_server else self.settings.branch
        return replace(self.base.diagnosis, branch=branch)

    @property
    def cluster(self) -> Cluster:
        """The cluster of its base."""
        return self.base.cluster

    @cached_property
    def deployment(self) -> Deployment:
        """Its Pulumi deployment, selected."""
        return self.base.preview_deployment(self.name)

    def look_up(self, type_: str, inputs: Mapping[str, Any]) -> list[Created]:
        """Return what an interrupted creation may have left."""
        return self.base.look_up(type_, inputs)
