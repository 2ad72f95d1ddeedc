"""What Airflow needs from where it runs, whichever cloud or cluster that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import pulumi
import pulumi_kubernetes as kubernetes

# Where Airflow runs, unless a stack's settings say otherwise.
NAMESPACE = "airflow"

# The database that every PostgreSQL server has, to which one connects to make others.
MAINTENANCE_DATABASE = "postgres"

# Where things lie in the buckets; DAGs have their own folders in `data` and `artifacts`.
LOGS_PREFIX = "airflow/"
MLFLOW_PREFIX = "mlflow/"


class Component(StrEnum):
    """A kind of pod, with an identity of its own."""

    SCHEDULER = "scheduler"
    API_SERVER = "api-server"
    TRIGGERER = "triggerer"
    DAG_PROCESSOR = "dag-processor"
    TASK = "task"
    DEPLOY = "deploy"
    MLFLOW = "mlflow"
    SERVING = "serving"

    @property
    def service_account(self) -> str:
        """The name of its Kubernetes service account in the namespace `airflow`."""
        return self.value if self in (Component.MLFLOW, Component.SERVING) else f"airflow-{self.value}"


@dataclass(frozen=True)
class DatabaseAccess:
    """A PostgreSQL database and the user who owns it; `url` and `password` are secrets."""

    host: pulumi.Output[str]
    port: pulumi.Output[int]
    name: str
    user: str
    password: pulumi.Output[str]
    tls: bool = True

    @property
    def sslmode(self) -> str:
        """How PostgreSQL's clients call the encryption of the connection."""
        return "require" if self.tls else "disable"

    @property
    def url(self) -> pulumi.Output[str]:
        """The address with the password; the connection is encrypted where the server knows how (`tls`)."""
        return pulumi.Output.secret(
            pulumi.Output.format(
                "postgresql://{0}:{1}@{2}:{3}/{4}?sslmode={5}",
                self.user,
                self.password,
                self.host,
                self.port,
                self.name,
                self.sslmode,
            )
        )


@dataclass(frozen=True)
class Buckets:
    """The names of the buckets.

    Attributes:
        prefix: What all keys begin with, where other environments have the same buckets; it ends in "/".
    """

    data: pulumi.Output[str]
    artifacts: pulumi.Output[str]
    logs: pulumi.Output[str]
    prefix: str = ""

    def folder(self, bucket: pulumi.Output[str], folder: str) -> pulumi.Output[str]:
        """Return the address of a folder of the environment, without a slash at its end."""
        return pulumi.Output.format("s3://{0}/{1}", bucket, f"{self.prefix}{folder}".rstrip("/"))


@dataclass(frozen=True)
class DagSource:
    """The Git repository whose DAGs run.

    Attributes:
        repository: Its address, as `git clone` takes it.
        branch: The branch that the stack follows.
        folder: The folder of the DAGs in it.
        credentials: Whether it is read without a key, with an SSH key, or with a user's token.
        known_hosts: The host keys of its server, in the form of `~/.ssh/known_hosts`, for an SSH key.
    """

    repository: pulumi.Input[str]
    branch: str
    folder: str
    credentials: Literal["none", "ssh", "token"] = "none"
    known_hosts: str = ""


@dataclass(frozen=True)
class Platform:
    """A place for Airflow to run.

    Attributes:
        provider: The Kubernetes cluster.
        namespace: The namespace; it comes after nodes, identities and databases, so what takes its name waits for them.
        airflow_database: Airflow's metadata.
        mlflow_database: MLflow's runs and registry.
        buckets: The object store.
        environment: Variables by which AWS clients in pods find the object store.
        credentials_secret: The Secret with the object store's keys, as variables; None where a pod's service account
            is its identity.
        object_store_keys: The content of that Secret; nothing where there is none.
        images: The full name of each image under `images/`, with its tag, and with its digest where a release is given.
        storage_class: The class of volumes that are made on demand; None for the cluster's own default.
        dags: Where the DAGs come from.
        has_gpus: Whether pods that ask for a GPU find a node.
        guest: Whether the cluster is another Airflow's: what runs here never takes room from what runs there.
    """

    provider: kubernetes.Provider
    namespace: pulumi.Output[str]
    airflow_database: DatabaseAccess
    mlflow_database: DatabaseAccess
    buckets: Buckets
    environment: Mapping[str, pulumi.Input[str]]
    credentials_secret: pulumi.Output[str] | None
    object_store_keys: pulumi.Input[Mapping[str, pulumi.Input[str]]]
    images: Mapping[str, pulumi.Output[str]]
    storage_class: pulumi.Output[str] | None
    dags: DagSource
    has_gpus: bool
    guest: bool = False
