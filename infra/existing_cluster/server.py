"""A server with a volume: one pod, its Service, and its network policy."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.apps.v1 import StatefulSetSpecArgsDict
from pulumi_kubernetes.core.v1 import ContainerArgsDict, VolumeArgsDict, VolumeMountArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicyPeerArgsDict, NetworkPolicySpecArgsDict

from infra import restricted_pods


@dataclass(frozen=True)
class ServerPod:
    """The pod of a server.

    Attributes:
        name: The name of the server, its Service and its pods.
        port: The port that it listens on.
        user_id: The user that it runs as, who owns the volume.
        container: The container, without the fields that all servers share.
        volume_path: The mount path of the volume.
        volume_gib: The volume's size in GiB.
        preparation: Init containers.
        volumes: Further volumes.
        mounts: The mounts of these volumes.
    """

    name: str
    port: int
    user_id: int
    container: ContainerArgsDict
    volume_path: str
    volume_gib: int
    preparation: Sequence[ContainerArgsDict] = ()
    volumes: Sequence[VolumeArgsDict] = ()
    mounts: Sequence[VolumeMountArgsDict] = ()

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pod."""
        return labels(self.name)


class Server(pulumi.ComponentResource):
    """The server.

    Attributes:
        host: The server's DNS name in the cluster; resolves once the server is ready.
    """

    host: pulumi.Output[str]

    def __init__(
        self,
        pod: ServerPod,
        namespace: pulumi.Output[str],
        clients: Sequence[NetworkPolicyPeerArgsDict],
        storage_class: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the server; only `clients` may connect to it."""
        super().__init__("airflow:existing_cluster:Server", pod.name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._pod = pod
        self._namespace = namespace

        self._create_network_policy(clients)
        service = self._create_service()
        stateful_set = self._create_stateful_set(storage_class)
        self.host = pulumi.Output.all(service.metadata.name, namespace, stateful_set.metadata.name).apply(
            lambda names: f"{names[0]}.{names[1]}.svc"
        )

        self.register_outputs({"host": self.host})

    def _create_network_policy(self, clients: Sequence[NetworkPolicyPeerArgsDict]) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            f"{self._pod.name}-clients",
            metadata={"name": f"{self._pod.name}-clients", "namespace": self._namespace},
            spec=ingress_policy(self._pod.name, self._pod.port, clients),
            opts=self._child_opts,
        )

    def _create_service(self) -> kubernetes.core.v1.Service:
        return kubernetes.core.v1.Service(
            self._pod.name,
            metadata={
                "name": self._pod.name,
                "namespace": self._namespace,
                # By default, Pulumi waits for the Service's pods, which are created after it.
                "annotations": {"pulumi.com/skipAwait": "true"},
            },
            spec={
                "selector": self._pod.labels,
                "ports": [{"port": self._pod.port, "target_port": self._pod.port, "protocol": "TCP"}],
            },
            opts=self._child_opts,
        )

    def _create_stateful_set(self, storage_class: str | None) -> kubernetes.apps.v1.StatefulSet:
        return kubernetes.apps.v1.StatefulSet(
            self._pod.name,
            metadata={"name": self._pod.name, "namespace": self._namespace},
            spec=stateful_set_spec(self._pod, storage_class),
            opts=self._child_opts,
        )


def labels(server: str) -> dict[str, str]:
    """Return the labels of a server's pod."""
    return {"app.kubernetes.io/name": server}


def ingress_policy(server: str, port: int, clients: Sequence[NetworkPolicyPeerArgsDict]) -> NetworkPolicySpecArgsDict:
    """Return the network policy that allows clients to connect to a server."""
    return {
        "pod_selector": {"match_labels": labels(server)},
        "policy_types": ["Ingress"],
        "ingress": [{"from_": list(clients), "ports": [{"port": port, "protocol": "TCP"}]}],
    }


def stateful_set_spec(pod: ServerPod, storage_class: str | None) -> StatefulSetSpecArgsDict:
    """Return the StatefulSet's spec; the pod can only write to its volume and `/tmp`."""
    mounts: list[VolumeMountArgsDict] = [
        {"name": "data", "mount_path": pod.volume_path},
        {"name": "tmp", "mount_path": "/tmp"},  # noqa: S108
        *pod.mounts,
    ]

    def hardened(container: ContainerArgsDict) -> ContainerArgsDict:
        return {**container, "volume_mounts": mounts, "security_context": restricted_pods.CONTAINER}

    return {
        "service_name": pod.name,
        "replicas": 1,
        # With the default policy, a pod that never became ready, such as one without its image, is never replaced:
        # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        "pod_management_policy": "Parallel",
        "selector": {"match_labels": pod.labels},
        "template": {
            "metadata": {"labels": pod.labels},
            "spec": {
                "automount_service_account_token": False,
                "enable_service_links": False,
                "security_context": restricted_pods.pod(pod.user_id),
                "init_containers": [hardened(container) for container in pod.preparation],
                "containers": [hardened(pod.container)],
                "volumes": [{"name": "tmp", "empty_dir": {}}, *pod.volumes],
            },
        },
        "volume_claim_templates": [
            {
                "metadata": {"name": "data"},
                "spec": {
                    "access_modes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": f"{pod.volume_gib}Gi"}},
                    **({"storage_class_name": storage_class} if storage_class else {}),
                },
            }
        ],
    }
