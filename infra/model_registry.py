"""The MLflow server: experiment tracking and the model registry, on every platform."""

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.apps.v1 import DeploymentSpecArgsDict
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvVarArgsDict, ProbeArgsDict

from infra import restricted_pods
from infra.airflow_platform import MLFLOW_PREFIX, Component, DatabaseAccess, Platform

NAME = "mlflow"
PORT = 5000
USER_ID = 10001  # of the user in images/mlflow
LABELS = {"app.kubernetes.io/name": NAME}

# What browsers and clients may call it: its Service, and the end of a port-forward. MLflow refuses every other name,
# against DNS rebinding: https://mlflow.org/docs/latest/self-hosting/security/network/
HOSTS = (NAME, f"{NAME}:*", f"{NAME}.*", "localhost:*", "127.0.0.1:*")

# The server refuses a schema that is not its own version's; making and migrating one are the same function.
PREPARE_DATABASE = """
import os
from mlflow.store.db import utils

utils._initialize_tables(utils.create_sqlalchemy_engine_with_retry(os.environ["MLFLOW_BACKEND_STORE_URI"]))
"""


class ModelRegistry(pulumi.ComponentResource):
    """The server, its Service `mlflow:5000` and its identity.

    Attributes:
        url: Its address in the cluster.
    """

    url: pulumi.Output[str]

    def __init__(self, name: str, platform: Platform, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the server in Airflow's namespace."""
        super().__init__("airflow:index:ModelRegistry", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self, provider=platform.provider)
        self._platform = platform

        secret = self._create_secret(platform.mlflow_database)
        service_account = self._create_service_account()
        self._create_deployment(secret, service_account)
        self.url = self._create_service()

        self.register_outputs({"url": self.url})

    def _create_secret(self, database: DatabaseAccess) -> pulumi.Output[str]:
        secret = kubernetes.core.v1.Secret(
            "mlflow-database",
            metadata={"name": "mlflow-database", "namespace": self._platform.namespace},
            # With the driver of requirements/mlflow.in; SQLAlchemy's own choice is another.
            string_data={"MLFLOW_BACKEND_STORE_URI": database.url.apply(with_driver)},
            opts=self._child_opts,
        )
        return secret.metadata.name.apply(str)

    def _create_service_account(self) -> pulumi.Output[str]:
        account = kubernetes.core.v1.ServiceAccount(
            NAME,
            metadata={"name": Component.MLFLOW.service_account, "namespace": self._platform.namespace},
            automount_service_account_token=False,
            opts=self._child_opts,
        )
        return account.metadata.name.apply(str)

    def _create_deployment(self, secret: pulumi.Output[str], service_account: pulumi.Output[str]) -> None:
        kubernetes.apps.v1.Deployment(
            NAME,
            metadata={"name": NAME, "namespace": self._platform.namespace, "labels": LABELS},
            spec=deployment_spec(self._platform, secret, service_account),
            opts=self._child_opts,
        )

    def _create_service(self) -> pulumi.Output[str]:
        service = kubernetes.core.v1.Service(
            NAME,
            metadata={"name": NAME, "namespace": self._platform.namespace, "labels": LABELS},
            spec={"selector": LABELS, "ports": [{"name": "http", "port": PORT, "target_port": "http"}]},
            opts=self._child_opts,
        )
        return pulumi.Output.format("http://{0}:{1}", service.metadata.name, PORT)


def deployment_spec(
    platform: Platform, secret: pulumi.Input[str], service_account: pulumi.Input[str]
) -> DeploymentSpecArgsDict:
    """Return the server; its clients read and write artifacts in the object store themselves."""
    common: ContainerArgsDict = {
        "name": NAME,
        "image": platform.images[NAME],
        "env": environment(platform),
        "env_from": [
            {"secret_ref": {"name": name}} for name in (secret, platform.credentials_secret) if name is not None
        ],
        "volume_mounts": [{"name": "tmp", "mount_path": "/tmp"}],  # noqa: S108
        "security_context": restricted_pods.CONTAINER,
    }
    command = ["mlflow", "server", "--host", "0.0.0.0", "--port", str(PORT), "--workers", "1", "--no-serve-artifacts"]  # noqa: S104
    return {
        "replicas": 1,
        "selector": {"match_labels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "service_account_name": service_account,
                "automount_service_account_token": False,
                "enable_service_links": False,  # a variable MLFLOW_PORT, of its own Service, would confuse it
                "security_context": restricted_pods.pod(USER_ID),
                "init_containers": [
                    {
                        **common,
                        "name": "prepare-database",
                        "command": ["python", "-c", PREPARE_DATABASE],
                        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
                    }
                ],
                "containers": [
                    {
                        **common,
                        "command": command,
                        "ports": [{"name": "http", "container_port": PORT, "protocol": "TCP"}],
                        "startup_probe": _probe(period_seconds=5, failure_threshold=60),
                        "readiness_probe": _probe(period_seconds=10, failure_threshold=3),
                        "liveness_probe": _probe(period_seconds=20, failure_threshold=6),
                        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
                    }
                ],
                "volumes": [{"name": "tmp", "empty_dir": {"size_limit": "1Gi"}}],
            },
        },
    }


def with_driver(url: str) -> str:
    """Return a database's address that names the driver."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def environment(platform: Platform) -> list[EnvVarArgsDict]:
    """Return the server's variables but its database's address."""
    variables: dict[str, pulumi.Input[str]] = {
        **platform.environment,
        "HOME": "/tmp",  # noqa: S108
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": platform.buckets.folder(platform.buckets.artifacts, MLFLOW_PREFIX),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(HOSTS),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # ten worker processes for jobs that nobody sends
        "DO_NOT_TRACK": "true",
    }
    return [{"name": name, "value": value} for name, value in variables.items()]


def _probe(*, period_seconds: int, failure_threshold: int) -> ProbeArgsDict:
    return {
        "http_get": {"path": "/health", "port": "http"},
        "period_seconds": period_seconds,
        "failure_threshold": failure_threshold,
        "timeout_seconds": 10,
    }
