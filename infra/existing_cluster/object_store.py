"""An S3 server in the cluster that keeps its objects on a volume: ministack."""

from collections.abc import Mapping
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pulumi_kubernetes.core.v1 import ProbeArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra.airflow_platform import Buckets
from infra.existing_cluster import peers
from infra.existing_cluster.server import Server, ServerPod

SERVER = "s3"
IMAGE = "docker.io/ministackorg/ministack:1.5.33"
USER_ID = 1000
PORT = 4566
REGION = "us-east-1"
VOLUME_GIB = 20
DATA, ARTIFACTS, LOGS = "airflow-data", "airflow-artifacts", "airflow-logs"

# The server without its administration interface, and what it runs at each start.
PROGRAM = Path(__file__).parents[1] / "s3_server.py"
SERVER_FOLDER = "/etc/s3-server"
START_SCRIPT = Path(__file__).with_name("create_buckets.py")
START_FOLDER = "/docker-entrypoint-initaws.d/ready.d"

AIRFLOW_CLIENTS = ("api-server", "triggerer", "worker")


class ObjectStore(pulumi.ComponentResource):
    """The server and its buckets.

    Attributes:
        buckets: The names of the buckets.
        environment: Variables by which AWS clients find the server.
        credentials: Variables with which they sign their requests; the second is a secret.
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
        """Make the server; tasks, what shows and serves their results, and MLflow may connect to it."""
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
        programs = kubernetes.core.v1.ConfigMap(
            "s3-programs",
            metadata={"namespace": self._namespace},
            data={file.name: file.read_text() for file in (PROGRAM, START_SCRIPT)},
            opts=self._child_opts,
        )
        pod = server_pod(secret.metadata.name.apply(str), programs.metadata.name.apply(str))
        return Server(pod, self._namespace, clients(airflow_namespace), storage_class, self._child_opts)


def clients(namespace: str) -> list[NetworkPolicyPeerArgsDict]:
    """Return who may connect to the server out of a namespace with Airflow."""
    return [
        peers.airflow(namespace, *AIRFLOW_CLIENTS),
        peers.labelled(namespace, peers.MLFLOW),
        peers.labelled(namespace, peers.SERVING),
    ]


def environment(host: pulumi.Input[str]) -> dict[str, pulumi.Input[str]]:
    """Return the variables by which AWS clients find the server."""
    return {
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": pulumi.Output.format("http://{0}:{1}", host, PORT),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def server_pod(secret: pulumi.Input[str], programs: pulumi.Input[str]) -> ServerPod:
    """Return the server, which answers only requests that are signed with the keys in the Secret."""
    variables = {
        "AUTH": "true",
        "GATEWAY_PORT": str(PORT),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": "/data",
        "LOG_LEVEL": "WARNING",
        # It emulates more than S3 and would listen for it, and tidy up in a Docker daemon that it finds.
        "SERVICES": "s3",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": "unix:///tmp/no-docker.sock",
        "PYTHONPATH": SERVER_FOLDER,
        "BUCKETS": f"{DATA} {ARTIFACTS} {LOGS}",
    }
    return ServerPod(
        name=SERVER,
        port=PORT,
        user_id=USER_ID,
        volume_path="/data",
        volume_gib=VOLUME_GIB,
        container={
            "name": "s3",
            "image": IMAGE,
            "command": ["python", "-m", "hypercorn", f"{PROGRAM.stem}:app", "--bind", f"0.0.0.0:{PORT}"],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "env_from": [{"secret_ref": {"name": secret}}],
            "ports": [{"name": "s3", "container_port": PORT, "protocol": "TCP"}],
            "startup_probe": _probe("ready", period_seconds=2, failure_threshold=60),
            "readiness_probe": _probe("ready", period_seconds=10, failure_threshold=3),
            "liveness_probe": _probe("health", period_seconds=20, failure_threshold=6),
            "resources": {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}},
        },
        volumes=[{"name": "programs", "config_map": {"name": programs}}],
        mounts=[
            {"name": "programs", "mount_path": f"{folder}/{file.name}", "sub_path": file.name}
            for folder, file in ((SERVER_FOLDER, PROGRAM), (START_FOLDER, START_SCRIPT))
        ],
    )


def _probe(page: str, *, period_seconds: int, failure_threshold: int) -> ProbeArgsDict:
    return {
        "http_get": {"path": f"/_ministack/{page}", "port": "s3"},
        "period_seconds": period_seconds,
        "failure_threshold": failure_threshold,
        "timeout_seconds": 5,
    }
