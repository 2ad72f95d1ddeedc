"""PostgreSQL in the cluster, with separate databases and owners for Airflow, MLflow and the feature store."""

from collections.abc import Sequence
from dataclasses import replace

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pulumi_kubernetes.core.v1 import ExecActionArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra import feature_store
from infra.airflow_names import (
    COMPONENTS_WITH_DATABASE,
    DATABASE_SETUP_LABELS,
    DATABASE_USERS,
    MLFLOW_LABELS,
    SERVING_LABELS,
)
from infra.airflow_platform import MAINTENANCE_DATABASE, DatabaseAccess
from infra.database_setup import FEATURES, NO_OPTIONS, DatabaseOptions, DatabaseSetup
from infra.existing_cluster import peers
from infra.existing_cluster.server import Server, ServerPod
from infra.existing_cluster_names import POSTGRES_IMAGE, POSTGRES_USER_ID, POSTGRES_VOLUME_GIB

SERVER = "postgres"
PORT = 5432
ADMIN = "postgres"
PASSWORD_LENGTH = 32
# Each of Airflow's components pools up to 15 connections, and each API call of a running task needs one more.
MAX_CONNECTIONS = 200


class Database(pulumi.ComponentResource):
    """The server, and access to its databases.

    Attributes:
        admin: The administrator's access to the server.
        airflow: The database of Airflow's metadata.
        mlflow: The database of MLflow's runs and registry.
        features: The database of the feature store.
    """

    admin: DatabaseAccess
    airflow: DatabaseAccess
    mlflow: DatabaseAccess
    features: DatabaseAccess

    def __init__(
        self,
        name: str,
        namespace: pulumi.Output[str],
        airflow_namespace: str,
        storage_class: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the server; Airflow's control plane, MLflow and tasks may connect to it."""
        super().__init__("airflow:existing_cluster:Database", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._namespace = namespace

        password = self._create_password("admin")
        server = self._create_server(password, airflow_namespace, storage_class)
        self._create_setup_policy()
        port = pulumi.Output.from_input(PORT)
        self.admin = DatabaseAccess(server.host, port, MAINTENANCE_DATABASE, ADMIN, password)
        self._setup = DatabaseSetup(self.admin, namespace, POSTGRES_IMAGE, self._child_opts)
        self.airflow = self._create_database("airflow", DATABASE_USERS)
        self.mlflow = self._create_database("mlflow")
        self.features = self._create_database(feature_store.DATABASE, [feature_store.SERVERS], FEATURES)

        self.register_outputs({"host": self.airflow.host})

    def _create_password(self, purpose: str) -> pulumi.Output[str]:
        # Without special characters, because the password becomes part of a connection string.
        return random.RandomPassword(
            f"{purpose}-password", length=PASSWORD_LENGTH, special=False, opts=self._child_opts
        ).result

    def _create_server(self, password: pulumi.Output[str], airflow_namespace: str, storage_class: str | None) -> Server:
        secret = kubernetes.core.v1.Secret(
            "postgres-admin",
            metadata={"namespace": self._namespace},
            string_data={"POSTGRES_PASSWORD": password},
            opts=self._child_opts,
        )
        setup: NetworkPolicyPeerArgsDict = {"pod_selector": {"match_labels": DATABASE_SETUP_LABELS}}
        pod = server_pod(secret.metadata.name.apply(str))
        return Server(pod, self._namespace, [*clients(airflow_namespace), setup], storage_class, self._child_opts)

    def _create_setup_policy(self) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            "database-setup",
            metadata={"name": "database-setup", "namespace": self._namespace},
            spec={
                "pod_selector": {"match_labels": DATABASE_SETUP_LABELS},
                "policy_types": ["Egress"],
                "egress": [
                    {"to": [{"pod_selector": {}}], "ports": [{"port": PORT, "protocol": "TCP"}]},
                    # DNS, in whichever namespace the cluster runs it.
                    {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
                ],
            },
            opts=self._child_opts,
        )

    def _create_database(
        self,
        name: str,
        components: Sequence[str] = (),
        options: DatabaseOptions = NO_OPTIONS,
    ) -> DatabaseAccess:
        password = self._create_password(name)
        access = DatabaseAccess(self.admin.host, self.admin.port, name, name, password)
        passwords = {component: self._create_password(f"{name}-{component}") for component in components}
        return self._setup.create(replace(access, component_passwords=passwords), options)


def clients(namespace: str) -> list[NetworkPolicyPeerArgsDict]:
    """Return the peers that may connect to the server: Airflow, MLflow, tasks, and model servers."""
    return [
        peers.airflow(namespace, *COMPONENTS_WITH_DATABASE),
        peers.labelled(namespace, MLFLOW_LABELS),
        peers.labelled(namespace, SERVING_LABELS),
        peers.tasks(namespace),
    ]


def server_pod(secret: pulumi.Input[str]) -> ServerPod:
    """Return the server; the administrator's password in the Secret takes effect only on a new volume."""
    ready: ExecActionArgsDict = {"command": ["pg_isready", "--quiet", "--host=127.0.0.1", f"--username={ADMIN}"]}
    return ServerPod(
        name=SERVER,
        port=PORT,
        user_id=POSTGRES_USER_ID,
        volume_path="/var/lib/postgresql/data",
        volume_gib=POSTGRES_VOLUME_GIB,
        container={
            "name": "postgres",
            "image": POSTGRES_IMAGE,
            "args": ["postgres", "-c", f"max_connections={MAX_CONNECTIONS}"],
            "env": [
                # A folder below the volume's root, because some drivers put their own folder into the root.
                {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
                {"name": "POSTGRES_INITDB_ARGS", "value": "--encoding=UTF8 --locale=C.UTF-8"},
            ],
            "env_from": [{"secret_ref": {"name": secret}}],
            "ports": [{"name": "postgres", "container_port": PORT, "protocol": "TCP"}],
            "startup_probe": {"exec_": ready, "period_seconds": 2, "failure_threshold": 60, "timeout_seconds": 5},
            "readiness_probe": {"exec_": ready, "period_seconds": 10, "timeout_seconds": 5},
            "liveness_probe": {"tcp_socket": {"port": "postgres"}, "period_seconds": 20, "failure_threshold": 6},
            "resources": {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}},
        },
        volumes=[{"name": "run", "empty_dir": {}}],
        mounts=[{"name": "run", "mount_path": "/var/run/postgresql"}],
    )
