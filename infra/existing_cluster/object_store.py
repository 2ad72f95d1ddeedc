"""An S3 server in the cluster that stores its objects on a volume: SeaweedFS, with all parts in one process.

Only the S3 port and its gRPC port listen on the pod's address, and the network policy opens only the S3 port.
"""

from collections.abc import Mapping
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pulumi_kubernetes.core.v1 import ProbeArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra import seaweedfs
from infra.airflow_names import MLFLOW_LABELS, SERVING_LABELS
from infra.airflow_platform import Buckets
from infra.existing_cluster import peers
from infra.existing_cluster.server import Server, ServerPod
from infra.existing_cluster_names import OBJECT_STORE, OBJECT_STORE_PORT

IMAGE = "docker.io/chrislusf/seaweedfs:4.48"
PROGRAM = "/usr/bin/weed"
USER_ID = 1000
GRPC_PORT = 14566
MASTER_PORT = 9333
VOLUME_GIB = 20
MEMORY_LIMIT = "384MiB"  # of the heap; concurrent uploads exceed it briefly
DATA, ARTIFACTS, LOGS = "airflow-data", "airflow-artifacts", "airflow-logs"

SETTINGS_FOLDER = "/etc/s3"
START_SCRIPT = Path(__file__).with_name("create_buckets.sh")

AIRFLOW_CLIENTS = ("api-server", "triggerer")


class ObjectStore(pulumi.ComponentResource):
    """The server and its buckets.

    Attributes:
        buckets: The names of the buckets.
        environment: The variables that point AWS clients to the server.
        credentials: The variables with the clients' credentials; the second is a secret.
    """

    buckets: Buckets
    environment: Mapping[str, pulumi.Input[str]]
    credentials: Mapping[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        namespace: pulumi.Output[str],
        airflow_namespace: str,
        storage_class: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the server; tasks, the components that read their results, and MLflow may connect to it."""
        super().__init__("airflow:existing_cluster:ObjectStore", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._namespace = namespace

        self.credentials = self._create_credentials()
        server = self._create_server(airflow_namespace, storage_class)
        self.environment = environment(server.host)
        self.buckets = Buckets(
            data=pulumi.Output.from_input(DATA),
            artifacts=pulumi.Output.from_input(ARTIFACTS),
            logs=pulumi.Output.from_input(LOGS),
        )

        self.register_outputs({"host": server.host})

    def _create_credentials(self) -> Mapping[str, pulumi.Output[str]]:
        key = random.RandomPassword("s3-key", length=16, special=False, lower=False, opts=self._child_opts)
        secret_key = random.RandomPassword("s3-secret-key", length=40, special=False, opts=self._child_opts)
        return {
            "AWS_ACCESS_KEY_ID": pulumi.Output.format("AKIA{0}", key.result),
            "AWS_SECRET_ACCESS_KEY": secret_key.result,
        }

    def _create_server(self, airflow_namespace: str, storage_class: str | None) -> Server:
        secret = kubernetes.core.v1.Secret(
            "s3-credentials",
            metadata={"namespace": self._namespace},
            string_data=self.credentials,
            opts=self._child_opts,
        )
        settings = kubernetes.core.v1.ConfigMap(
            "s3-settings",
            metadata={"namespace": self._namespace},
            data={
                "master.toml": seaweedfs.master_settings(f"127.0.0.1:{GRPC_PORT}"),
                "filer.toml": seaweedfs.FILER_SETTINGS,
                START_SCRIPT.name: START_SCRIPT.read_text(),
            },
            opts=self._child_opts,
        )
        pod = server_pod(secret.metadata.name.apply(str), settings.metadata.name.apply(str))
        return Server(pod, self._namespace, clients(airflow_namespace), storage_class, self._child_opts)


def clients(namespace: str) -> list[NetworkPolicyPeerArgsDict]:
    """Return the pods of the Airflow in a namespace that may connect to the server."""
    return [
        peers.airflow(namespace, *AIRFLOW_CLIENTS),
        peers.tasks(namespace),
        peers.labelled(namespace, MLFLOW_LABELS),
        peers.labelled(namespace, SERVING_LABELS),
    ]


def environment(host: pulumi.Input[str]) -> dict[str, pulumi.Input[str]]:
    """Return the variables that point AWS clients to the server."""
    return {
        "AWS_REGION": seaweedfs.REGION,
        "AWS_DEFAULT_REGION": seaweedfs.REGION,
        "AWS_ENDPOINT_URL": pulumi.Output.format("http://{0}:{1}", host, OBJECT_STORE_PORT),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def server_pod(secret: pulumi.Input[str], settings: pulumi.Input[str]) -> ServerPod:
    """Return the server, which accepts only requests signed with the keys in the Secret."""
    variables = {
        seaweedfs.MEMORY_LIMIT: MEMORY_LIMIT,
        "HOME": "/tmp",  # noqa: S108 - the image's own is read-only
        # Read by the startup probe. The prefix keeps SeaweedFS from reading them as options, such as MASTER as -master.
        "PROBE_MASTER": f"127.0.0.1:{MASTER_PORT}",
        "PROBE_BUCKETS": f"{DATA} {ARTIFACTS} {LOGS}",
        "PROBE_EXPIRING_BUCKET": LOGS,
        "PROBE_EXPIRY": f"{seaweedfs.LOG_DAYS}d",
    }
    return ServerPod(
        name=OBJECT_STORE,
        port=OBJECT_STORE_PORT,
        user_id=USER_ID,
        volume_path="/data",
        volume_gib=VOLUME_GIB,
        container={
            "name": "s3",
            "image": IMAGE,
            "command": [PROGRAM, "-logtostderr=true", f"-config_dir={SETTINGS_FOLDER}", "server", *_options(), "-s3"],
            "working_dir": "/data",
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "env_from": [{"secret_ref": {"name": secret}}],
            "ports": [{"name": "s3", "container_port": OBJECT_STORE_PORT, "protocol": "TCP"}],
            "startup_probe": {
                "exec_": {"command": ["/bin/sh", f"{SETTINGS_FOLDER}/{START_SCRIPT.name}"]},
                "period_seconds": 3,
                "failure_threshold": 40,
                "timeout_seconds": 20,
            },
            "readiness_probe": _probe(period_seconds=10, failure_threshold=3),
            "liveness_probe": _probe(period_seconds=20, failure_threshold=6),
            "resources": {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}},
        },
        volumes=[{"name": "settings", "config_map": {"name": settings}}],
        mounts=[{"name": "settings", "mount_path": SETTINGS_FOLDER}],
    )


def _options() -> list[str]:
    inside = {"ip": "127.0.0.1", "ip.bind": "127.0.0.1", "dir": "/data"}
    gateway = {"ip.bind": "0.0.0.0", "port": str(OBJECT_STORE_PORT), "port.grpc": str(GRPC_PORT), **seaweedfs.GATEWAY}  # noqa: S104
    return [
        *seaweedfs.arguments(inside),
        *seaweedfs.arguments({"port": str(MASTER_PORT), **seaweedfs.MASTER}, prefix="master."),
        *seaweedfs.arguments(seaweedfs.VOLUME, prefix="volume."),
        *seaweedfs.arguments(gateway, prefix="s3."),
    ]


def _probe(*, period_seconds: int, failure_threshold: int) -> ProbeArgsDict:
    return {
        "http_get": {"path": "/healthz", "port": "s3"},
        "period_seconds": period_seconds,
        "failure_threshold": failure_threshold,
        "timeout_seconds": 5,
    }
