"""A Git server in the cluster for the DAGs: clients that reach it can read; pushing requires `kubectl exec`."""

from pathlib import Path

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict

from infra.airflow_names import USER_ID
from infra.airflow_platform import DagSource
from infra.existing_cluster import peers
from infra.existing_cluster.server import Server, ServerPod
from infra.existing_cluster_names import GIT_REPOSITORY, GIT_SERVER

PORT = 9418
VOLUME_GIB = 1
FOLDER = "dags"
SEED_SCRIPT = Path(__file__).with_name("seed_repository.sh")

# The components with git-sync.
AIRFLOW_CLIENTS = ("dag-processor", "triggerer")


class GitServer(pulumi.ComponentResource):
    """The server, and one repository.

    Attributes:
        dags: The source of the DAGs, for git-sync.
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
        """Create the server from an image with Git, and a repository with one branch."""
        super().__init__("airflow:existing_cluster:GitServer", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)

        server = Server(server_pod(image, branch), namespace, clients(airflow_namespace), storage_class, child_opts)
        repository = address(server.host)
        self.dags = DagSource(repository, branch, FOLDER)

        self.register_outputs({"repository": repository})


def address(host: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return the address of the repository, as for `git clone`."""
    return pulumi.Output.format("git://{0}/{1}", host, Path(GIT_REPOSITORY).name)


def clients(namespace: str) -> list[NetworkPolicyPeerArgsDict]:
    """Return the pods of the Airflow in a namespace that may connect to the server."""
    return [peers.airflow(namespace, *AIRFLOW_CLIENTS)]


def server_pod(image: str, branch: str) -> ServerPod:
    """Return the server, which serves the repository on its volume read-only."""
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
            "command": ["dumb-init", "--", *serve],  # as process 1, Git's server would ignore signals
            "ports": [{"name": "git", "container_port": PORT, "protocol": "TCP"}],
            "readiness_probe": {"tcp_socket": {"port": "git"}, "period_seconds": 5},
            "liveness_probe": {"tcp_socket": {"port": "git"}, "period_seconds": 20, "failure_threshold": 6},
        },
    )
