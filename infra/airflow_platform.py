"""The interface between Airflow and the platform that it runs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, TypeVar

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_names import DATABASE_CA_FILE, DATABASE_CA_FOLDER
from infra.lineage import Lineage

# The database that exists on every PostgreSQL server, for connections that create others.
MAINTENANCE_DATABASE = "postgres"

# The file of the database's certificate authorities in pods.
AUTHORITIES = f"{DATABASE_CA_FOLDER}/{DATABASE_CA_FILE}"

# Prefixes in the buckets; DAGs have their own folders in `data` and `artifacts`.
LOGS_PREFIX = "airflow/"
MLFLOW_PREFIX = "mlflow/"


Name = TypeVar("Name")


class Component(StrEnum):
    """A kind of pod with its own identity."""

    SCHEDULER = "scheduler"
    API_SERVER = "api-server"
    TRIGGERER = "triggerer"
    DAG_PROCESSOR = "dag-processor"
    TASK = "task"
    MLFLOW = "mlflow"
    SERVING = "serving"

    @property
    def service_account(self) -> str:
        """The name of its service account."""
        return self.value if self in (Component.MLFLOW, Component.SERVING) else f"airflow-{self.value}"

    def namespace(self, airflow: Name, tasks: Name) -> Name:
        """Return the namespace of its pods, given that of Airflow and that of tasks."""
        return tasks if self in TASK_COMPONENTS else airflow


# The components whose pods are those of tasks.
TASK_COMPONENTS = (Component.TASK,)


@dataclass(frozen=True)
class DatabaseAccess:
    """A PostgreSQL database and the user who owns it; `url` and all passwords are secrets.

    Attributes:
        authorities: The authorities of the server's certificate as PEM; empty if connections are not encrypted.
        component_passwords: The passwords of components that have their own user, as in `DATABASE_USERS`.
    """

    host: pulumi.Output[str]
    port: pulumi.Output[int]
    name: str
    user: str
    password: pulumi.Output[str]
    authorities: str = ""
    component_passwords: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)

    def of(self, component: str) -> "DatabaseAccess":
        """Return the access of a component: with its own user, or as the owner if it has none."""
        if component not in self.component_passwords:
            return self
        return replace(self, user=f"{self.user}-{component}", password=self.component_passwords[component])

    @property
    def users(self) -> Mapping[str, pulumi.Output[str]]:
        """The passwords of the components' users by name."""
        return {access.user: access.password for access in map(self.of, self.component_passwords)}

    @property
    def sslmode(self) -> str:
        """The `sslmode` of PostgreSQL clients."""
        return "verify-full" if self.authorities else "disable"

    @property
    def url(self) -> pulumi.Output[str]:
        """The connection string with the password; clients verify the server if its authorities are known."""
        return pulumi.Output.secret(
            pulumi.Output.format(
                "postgresql://{0}:{1}@{2}:{3}/{4}?sslmode={5}{6}",
                self.user,
                self.password,
                self.host,
                self.port,
                self.name,
                self.sslmode,
                f"&sslrootcert={AUTHORITIES}" if self.authorities else "",
            )
        )


@dataclass(frozen=True)
class Buckets:
    """The names of the buckets.

    Attributes:
        prefix: The prefix of all keys if several environments share the buckets; it ends in "/".
    """

    data: pulumi.Output[str]
    artifacts: pulumi.Output[str]
    logs: pulumi.Output[str]
    prefix: str = ""

    def folder(self, bucket: pulumi.Output[str], folder: str) -> pulumi.Output[str]:
        """Return the address of a folder of the environment, without a trailing slash."""
        return pulumi.Output.format("s3://{0}/{1}", bucket, f"{self.prefix}{folder}".rstrip("/"))


@dataclass(frozen=True)
class DagSource:
    """The Git repository of the DAGs.

    Attributes:
        repository: The repository's address, as for `git clone`.
        branch: The branch that the stack follows.
        folder: The folder of the DAGs in the repository.
        credentials: How to authenticate: not at all, with an SSH key, or with a user's token.
        known_hosts: With an SSH key, the host keys of the server in the format of `~/.ssh/known_hosts`.
    """

    repository: pulumi.Input[str]
    branch: str
    folder: str
    credentials: Literal["none", "ssh", "token"] = "none"
    known_hosts: str = ""


@dataclass(frozen=True)
class Platform:
    """The platform that Airflow runs on.

    Attributes:
        provider: The provider of the Kubernetes cluster.
        namespace: Airflow's namespace; it depends on nodes, identities and databases, so its users wait for them.
        tasks_namespace: The namespace of task pods.
        airflow_database: Airflow's metadata.
        mlflow_database: MLflow's runs and registry.
        features_database: The feature store, which tasks reach directly.
        buckets: The object store.
        environment: The variables that point AWS clients in pods to the object store.
        credentials_secret: The Secret with the object store's keys as variables, of this name in both namespaces;
            None if pods use the identity of their service account.
        object_store_keys: The content of that Secret; empty if there is none.
        images: The full name of each image under `images/`: with its tag, and for a release with its digest.
        storage_class: The storage class of new volumes; None for the cluster's default.
        dags: The source of the DAGs.
        node_pools: The keys of the taints of each node pool, by its name; empty where the stack has no node pools.
        model_approval: Whether a person must approve a model before a DAG promotes it.
        names_in_policies: Whether the cluster has ApplicationNetworkPolicies, which can name servers.
        lineage: Where lineage is sent; None if it is off.
        wandb: The mode in which DAGs record runs in Weights & Biases.
        external_connections: The Airflow connections to systems outside the stack.
        external_prefix: The beginning of the names of jobs there.
        guest: Whether another Airflow owns the cluster; pods here never preempt its pods.
    """

    provider: kubernetes.Provider
    namespace: pulumi.Output[str]
    tasks_namespace: pulumi.Output[str]
    airflow_database: DatabaseAccess
    mlflow_database: DatabaseAccess
    features_database: DatabaseAccess
    buckets: Buckets
    environment: Mapping[str, pulumi.Input[str]]
    credentials_secret: pulumi.Output[str] | None
    object_store_keys: pulumi.Input[Mapping[str, pulumi.Input[str]]]
    images: Mapping[str, pulumi.Output[str]]
    storage_class: pulumi.Output[str] | None
    dags: DagSource
    node_pools: Mapping[str, Sequence[str]]
    model_approval: Literal["none", "required"]
    names_in_policies: bool
    lineage: Lineage | None = None
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    external_connections: Sequence[str] = ()
    external_prefix: str = "airflow"
    guest: bool = False
