"""The MLflow server: experiment tracking and the model registry, on every platform."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pulumi_kubernetes.apps.v1 import DeploymentSpecArgsDict
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EnvVarArgsDict,
    ProbeArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from infra import feature_store, mlflow_users, restricted_pods
from infra.airflow_names import DATABASE_CA, DATABASE_CA_FOLDER, MLFLOW, MLFLOW_ADMIN_SECRET, MLFLOW_LABELS, MLFLOW_PORT
from infra.airflow_platform import MLFLOW_PREFIX, Component, Platform
from infra.dag_declarations import declarations, model_servers
from infra.database_connections import MLFLOW as POOL

USER_ID = 10001  # the user of images/mlflow

# The hosts of a port-forward; the user chooses its port.
FORWARDED_HOSTS = ("localhost:*", "127.0.0.1:*")

PROGRAM = "/app/mlflow_server.py"
PASSWORD_LENGTH = 32
USERS_SECRET = "mlflow-users"  # noqa: S105 - names, here and below
TASKS_SECRET = "mlflow-tasks"  # noqa: S105

# `mlflow db upgrade`, which also creates the schema; the server refuses a schema of another version. The address has a
# password, so it must not be an argument of the process.
PREPARE_DATABASE = """
import os
from mlflow.db import commands

commands(["upgrade", os.environ["MLFLOW_BACKEND_STORE_URI"]])
"""


class ModelRegistry(pulumi.ComponentResource):
    """The server, its Service `mlflow:5000`, its identity and its users.

    Attributes:
        url: The server's address in the cluster.
    """

    url: pulumi.Output[str]

    def __init__(self, name: str, platform: Platform, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the server in Airflow's namespace."""
        super().__init__("airflow:index:ModelRegistry", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self, provider=platform.provider)
        self._platform = platform

        database = self._create_secret(
            # With the driver of requirements/mlflow.in, because SQLAlchemy's default is another one.
            "mlflow-database",
            {"MLFLOW_BACKEND_STORE_URI": platform.mlflow_database.url.apply(with_driver)},
        )
        users = self._create_users()
        service_account = self._create_service_account()
        self._create_deployment([database, users], service_account)
        self.url = self._create_service()

        self.register_outputs({"url": self.url})

    def _create_users(self) -> pulumi.Output[str]:
        """Create the users' passwords and Secrets, and return the name of the server's Secret."""
        passwords = {user: self._create_password(user) for user in mlflow_users.USERS}
        self._create_secret(
            MLFLOW_ADMIN_SECRET, {"username": mlflow_users.ADMIN, "password": passwords[mlflow_users.ADMIN]}
        )
        self._create_secret(
            TASKS_SECRET,
            mlflow_users.client_environment(mlflow_users.TASKS, passwords[mlflow_users.TASKS]),
            namespace=self._platform.tasks_namespace,
        )
        login = mlflow_users.client_environment(mlflow_users.SERVING, passwords[mlflow_users.SERVING])
        features = self._platform.features_database.of(feature_store.SERVERS).url.apply(feature_store.connection)
        for server in model_servers(declarations()):
            database = {feature_store.SERVERS_VARIABLE: features} if server.reads_features else {}
            self._create_secret(
                serving_secret(server.name),
                pulumi.Output.all(self._platform.object_store_keys, login, database).apply(
                    lambda parts: {**parts[0], **parts[1], **parts[2]}
                ),
                # Without a parent, because existing stacks have it under this URN: a new URN would delete the Secret.
                pulumi.ResourceOptions(provider=self._platform.provider),
            )
        return self._create_secret(USERS_SECRET, mlflow_users.server_environment(passwords))

    def _create_password(self, user: str) -> pulumi.Output[str]:
        return random.RandomPassword(
            f"mlflow-{user}-password", length=PASSWORD_LENGTH, special=False, opts=self._child_opts
        ).result

    def _create_secret(
        self,
        name: str,
        content: pulumi.Input[Mapping[str, pulumi.Input[str]]],
        opts: pulumi.ResourceOptions | None = None,
        *,
        namespace: pulumi.Output[str] | None = None,
    ) -> pulumi.Output[str]:
        secret = kubernetes.core.v1.Secret(
            name,
            metadata={"name": name, "namespace": namespace or self._platform.namespace},
            string_data=pulumi.Output.secret(content),
            opts=opts or self._child_opts,
        )
        return secret.metadata.name.apply(str)

    def _create_service_account(self) -> pulumi.Output[str]:
        account = kubernetes.core.v1.ServiceAccount(
            MLFLOW,
            metadata={"name": Component.MLFLOW.service_account, "namespace": self._platform.namespace},
            automount_service_account_token=False,
            opts=self._child_opts,
        )
        return account.metadata.name.apply(str)

    def _create_deployment(self, secrets: Sequence[pulumi.Output[str]], service_account: pulumi.Output[str]) -> None:
        kubernetes.apps.v1.Deployment(
            MLFLOW,
            metadata={"name": MLFLOW, "namespace": self._platform.namespace, "labels": MLFLOW_LABELS},
            spec=deployment_spec(self._platform, secrets, service_account),
            opts=self._child_opts,
        )

    def _create_service(self) -> pulumi.Output[str]:
        service = kubernetes.core.v1.Service(
            MLFLOW,
            metadata={"name": MLFLOW, "namespace": self._platform.namespace, "labels": MLFLOW_LABELS},
            spec={"selector": MLFLOW_LABELS, "ports": [{"name": "http", "port": MLFLOW_PORT, "target_port": "http"}]},
            opts=self._child_opts,
        )
        return pulumi.Output.format("http://{0}:{1}", service.metadata.name, MLFLOW_PORT)


def deployment_spec(
    platform: Platform, secrets: Sequence[pulumi.Input[str]], service_account: pulumi.Input[str]
) -> DeploymentSpecArgsDict:
    """Return the Deployment's spec; clients read and write artifacts directly in the object store."""
    mounts: list[VolumeMountArgsDict] = [{"name": "tmp", "mount_path": "/tmp"}]  # noqa: S108
    volumes: list[VolumeArgsDict] = [{"name": "tmp", "empty_dir": {"size_limit": "1Gi"}}]
    if platform.mlflow_database.authorities:
        mounts.append({"name": DATABASE_CA, "mount_path": DATABASE_CA_FOLDER, "read_only": True})
        volumes.append({"name": DATABASE_CA, "config_map": {"name": DATABASE_CA}})
    common: ContainerArgsDict = {
        "name": MLFLOW,
        "image": platform.images[MLFLOW],
        "env": environment(platform),
        "env_from": [
            {"secret_ref": {"name": name}} for name in (*secrets, platform.credentials_secret) if name is not None
        ],
        "volume_mounts": mounts,
        "security_context": restricted_pods.CONTAINER,
    }
    return {
        "replicas": 1,
        "selector": {"match_labels": MLFLOW_LABELS},
        "template": {
            "metadata": {"labels": MLFLOW_LABELS},
            "spec": {
                "service_account_name": service_account,
                "automount_service_account_token": False,
                "enable_service_links": False,  # its own Service would set MLFLOW_PORT, which is an option of MLflow
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
                        "command": ["python", PROGRAM],
                        "ports": [{"name": "http", "container_port": MLFLOW_PORT, "protocol": "TCP"}],
                        "startup_probe": _probe(period_seconds=5, failure_threshold=60),
                        "readiness_probe": _probe(period_seconds=10, failure_threshold=3),
                        "liveness_probe": _probe(period_seconds=20, failure_threshold=6),
                        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
                    }
                ],
                "volumes": volumes,
            },
        },
    }


def serving_secret(name: str) -> str:
    """Return the name of the Secret of what a DAG serves, as in dags/ml_common/serving_manifests.py."""
    return f"{name}-serving"


def passed_secret(name: str) -> str:
    """Return the name of the Secret into which a DAG's task puts variables for what it serves."""
    return f"{name}-passed"


def hosts(namespace: str) -> tuple[str, ...]:
    """Return the host names that the server accepts, to prevent DNS rebinding."""
    names = (MLFLOW, f"{MLFLOW}.{namespace}", f"{MLFLOW}.{namespace}.svc", f"{MLFLOW}.{namespace}.svc.cluster.local")
    return (*(f"{name}:{MLFLOW_PORT}" for name in names), *FORWARDED_HOSTS)


def with_driver(url: str) -> str:
    """Return a database's connection string with the driver."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def environment(platform: Platform) -> list[EnvVarArgsDict]:
    """Return the server's environment variables, without its secrets."""
    variables: dict[str, pulumi.Input[str]] = {
        **platform.environment,
        "HOME": "/tmp",  # noqa: S108
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": platform.buckets.folder(platform.buckets.artifacts, MLFLOW_PREFIX),
        "MLFLOW_HOST": "0.0.0.0",  # noqa: S104
        "MLFLOW_PORT": str(MLFLOW_PORT),
        "MLFLOW_SERVER_ALLOWED_HOSTS": platform.namespace.apply(lambda namespace: ",".join(hosts(namespace))),
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(POOL.size),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(POOL.overflow),
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
