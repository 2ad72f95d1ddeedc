"""A Git server in the cluster for the DAGs: whoever reaches it may read, and `kubectl exec` alone may push."""

from pathlib import Path

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra.airflow_platform import DagSource
from infra.existing_cluster import peers
from infra.existing_cluster.server import Server, ServerPod
from infra.existing_cluster_names import GIT_REPOSITORY, GIT_SERVER

PORT = 9418
USER_ID = 50000  # of the user in images/airflow
VOLUME_GIB = 1
FOLDER = "dags"
SEED_SCRIPT = Path(__file__).with_name("seed_repository.sh")

# Those with git-sync in them.
AIRFLOW_CLIENTS = ("dag-processor", "triggerer", "worker")


class GitServer(pulumi.ComponentResource):
    """The server, and one repository.

    Attributes:
        dags: What follows it.
    """

    dags: DagSource

    def __init__(
        self,
        name: str,
        namespace: pulumi.Output[str],
        airflow_namespace: str,
        branch: str,
        image: str,
        storage_class: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make the server out of an image that has Git, with one branch in its repository."""
        super().__init__("airflow:existing_cluster:GitServer", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)

        server = Server(server_pod(image, branch), namespace, clients(airflow_namespace), storage_class, child_opts)
        repository = address(server.host)
        self.dags = DagSource(repository, branch, FOLDER)

        self.register_outputs({"repository": repository})


def address(host: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return the address of the repository, as `git clone` takes it."""
    return pulumi.Output.format("git://{0}/{1}", host, Path(GIT_REPOSITORY).name)


def clients(namespace: str) -> list[NetworkPolicyPeerArgsDict]:
    """Return who may connect to the server out of a namespace with Airflow."""
    return [peers.airflow(namespace, *AIRFLOW_CLIENTS)]


def server_pod(image: str, branch: str) -> ServerPod:
    """Return the server, which serves what lies on its volume and takes no pushes."""
    git: ContainerArgsDict = {
        "name": GIT_SERVER,
        "image": image,
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            {"name": "BRANCH", "value": branch},
            {"name": "FOLDER", "value": FOLDER},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
    }
    folder = str(Path(GIT_REPOSITORY).parent)
    serve = ["git", "daemon", "--export-all", f"--base-path={folder}", f"--port={PORT}", "--reuseaddr", folder]
    return ServerPod(
        name=GIT_SERVER,
        port=PORT,
        user_id=USER_ID,
        volume_path=folder,
        volume_gib=VOLUME_GIB,
        preparation=[{**git, "name": "seed", "command": ["sh", "-c", SEED_SCRIPT.read_text()]}],
        container={
            **git,
            "command": ["dumb-init", "--", *serve],  # Git's server leaves signals alone when it is the first process
            "ports": [{"name": "git", "container_port": PORT, "protocol": "TCP"}],
            "readiness_probe": {"tcp_socket": {"port": "git"}, "period_seconds": 5},
            "liveness_probe": {"tcp_socket": {"port": "git"}, "period_seconds": 20, "failure_threshold": 6},
        },
    )
