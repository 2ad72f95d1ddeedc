"""What Airflow needs from where it runs, whichever cloud or cluster that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pulumi
import pulumi_kubernetes as kubernetes

NAMESPACE = "airflow"

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

    @property
    def url(self) -> pulumi.Output[str]:
        """The address with the password; the connection is encrypted."""
        return pulumi.Output.secret(
            pulumi.Output.format(
                "postgresql://{0}:{1}@{2}:{3}/{4}?sslmode=require",
                self.user,
                self.password,
                self.host,
                self.port,
                self.name,
            )
        )


@dataclass(frozen=True)
class Buckets:
    """The names of the buckets."""

    data: pulumi.Output[str]
    artifacts: pulumi.Output[str]
    logs: pulumi.Output[str]


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
        images: The address, without a tag, of each image under `images/`.
        storage_class: The class of volumes that are made on demand.
    """

    provider: kubernetes.Provider
    namespace: pulumi.Output[str]
    airflow_database: DatabaseAccess
    mlflow_database: DatabaseAccess
    buckets: Buckets
    environment: Mapping[str, str]
    images: Mapping[str, pulumi.Output[str]]
    storage_class: pulumi.Output[str]
