"""A stack as most commands need it: its Airflow in its cluster, and its Pulumi deployment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from infra.airflow_names import tasks_namespace
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis
from ops.pulumi.deployment import Deployment
from ops.pulumi.pending import Created


class Stack(ABC):
    """A stack. A command resolves it once and passes it on; each part is looked up when it is first used.

    Attributes:
        name: The name of the stack.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def namespace(self) -> str:
        """The namespace of Airflow."""

    @property
    def tasks_namespace(self) -> str:
        """The namespace of task pods."""
        return tasks_namespace(self.namespace)

    @property
    @abstractmethod
    def server_namespaces(self) -> Sequence[str]:
        """The namespace of the servers if they run in the cluster; else empty."""

    @property
    def namespaces(self) -> Sequence[str]:
        """All namespaces of the stack: that of the servers if they run in the cluster, Airflow's, that of tasks."""
        return (*self.server_namespaces, self.namespace, self.tasks_namespace)

    @property
    @abstractmethod
    def enforces_network_policies(self) -> bool:
        """Whether its cluster is known to enforce network policies."""

    @property
    @abstractmethod
    def setup_namespace(self) -> str:
        """The namespace where databases are created. Only that Job reads the administrator's password."""

    @property
    @abstractmethod
    def git_server(self) -> str | None:
        """The pod that serves the DAG repository; None if the repository is outside the cluster."""

    @property
    @abstractmethod
    def diagnosis(self) -> Diagnosis:
        """Finds problems in its namespaces."""

    @property
    @abstractmethod
    def cluster(self) -> Cluster:
        """Its cluster.

        Raises:
            ContextError: The settings do not allow the current context.
            OperationError: There is no cluster yet, or it does not respond.
        """

    @property
    @abstractmethod
    def deployment(self) -> Deployment:
        """Its Pulumi deployment, selected.

        Raises:
            ContextError: The settings do not allow the current context.
            OperationError: The account is the wrong one, the state cannot be read, or the stack is in another cluster.
        """

    @abstractmethod
    def look_up(self, type_: str, inputs: Mapping[str, Any]) -> list[Created]:
        """Return what an interrupted creation may have left.

        Raises:
            OperationError: A request to AWS or to the cluster failed.
        """

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Its Pulumi outputs when they are first used, including secrets; empty before the first deployment."""
        return self.deployment.outputs()
