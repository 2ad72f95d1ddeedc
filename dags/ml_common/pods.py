"""The pods of a DAG's tasks on Kubernetes: image, CPU, memory, GPUs and node pool.

`PODS = pods.of(__file__)` in a DAG file reads the image, the GPUs and the node pool from the `dag.yaml` next to it. The
methods return
a task's `executor_config`, which Airflow merges into the cluster's pod template. It is empty where tasks do not run in
pods, and inside a task's pod: importing the Kubernetes client takes longer than the rest of a DAG file. The scheduler
adds the service account of the DAG.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_common import declarations
from ml_common.image_names import full_name

ExecutorConfig = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """Resources of a pod.

    Attributes:
        cores: CPU request; there is no limit.
        memory_gib: Memory request and limit.
    """

    cores: float
    memory_gib: float


# Small enough for a cluster on a laptop: most steps wait for the object store more than they compute.
CPU = Size(cores=0.25, memory_gib=2)
# What a node with one GPU, 4 vCPUs and 16 GiB leaves to its pod.
GPU = Size(cores=3, memory_gib=12)

GPU_RESOURCE = "nvidia.com/gpu"
GPU_POOL = "gpu"
# Karpenter's label of the nodes of a pool.
POOL_LABEL = "karpenter.sh/nodepool"
DEFAULT_IMAGE = "ml"
SHARED_MEMORY = "shared-memory"


@dataclass(frozen=True)
class Pods:
    """The pods of one DAG.

    Attributes:
        image: The name of a folder in images/.
        gpus: The number of GPUs that a task may use.
        node_pool: The node pool of tasks that name none: of those with GPUs if the DAG has any, otherwise of all.
    """

    image: str
    gpus: int = 0
    node_pool: str | None = None

    def on_cpu(
        self, size: Size = CPU, image: str | None = None, *, pool: str | None = None, deploys: bool = False
    ) -> ExecutorConfig:
        """Run the task in a pod on a node without GPUs.

        Args:
            size: The pod's resources.
            image: Another image than the DAG's, for this task.
            pool: A node pool without GPUs; ignored on a laptop and in a cluster without node pools.
            deploys: Whether the task calls the Kubernetes API to deploy what the DAG serves; other tasks get no token.

        Raises:
            ValueError: The stack has no such node pool.
        """
        pool = pool or (None if self.gpus else self.node_pool)
        return _executor_config(size, image or self.image, gpus=0, pool=pool, token=deploys)

    def on_gpu(
        self, size: Size = GPU, image: str | None = None, instead: Size = CPU, *, pool: str | None = None
    ) -> ExecutorConfig:
        """Run the task in a pod with the DAG's GPUs or, in a cluster without GPUs, in a CPU pod of the size `instead`.

        Raises:
            ValueError: The DAG declares no GPUs, or the stack has no such node pool.
        """
        if not self.gpus:
            raise ValueError("on_gpu() needs GPUs: set `gpus: 1` in the dag.yaml of this DAG")
        if any(GPU_RESOURCE in taints for taints in _node_pools().values()):
            pool = pool or self.node_pool or GPU_POOL
            return _executor_config(size, image or self.image, self.gpus, pool, token=False)
        return self.on_cpu(instead, image)


def of(dag_file: str) -> Pods:
    """Return the pods of the DAG in a file, as the `dag.yaml` next to it declares them."""
    content = declarations.of(Path(dag_file).parent)
    return Pods(content.get("image", DEFAULT_IMAGE), content.get("gpus", 0), content.get("node_pool"))


def _node_pools() -> Mapping[str, Sequence[str]]:
    """Return the keys of the taints of each node pool; empty on a laptop and in a cluster without node pools."""
    pools: Mapping[str, Sequence[str]] = json.loads(os.environ.get("NODE_POOLS", "{}"))
    return pools


def _taints(pool: str | None, *, gpus: bool) -> Sequence[str]:
    """Return the keys of the taints that the task tolerates.

    Raises:
        ValueError: The stack has no such node pool, with or without GPUs.
    """
    pools = _node_pools()
    if not pools or pool is None:
        return ()
    fitting = [name for name, taints in pools.items() if (GPU_RESOURCE in taints) == gpus]
    if pool not in fitting:
        raise ValueError(
            f"this stack has no node pool {pool} {'with' if gpus else 'without'} GPUs: choose from "
            f"{', '.join(fitting)}, or add it to airflow:node_pools in the stack's settings"
        )
    return pools[pool]


def _executor_config(size: Size, image: str, gpus: int, pool: str | None, *, token: bool) -> ExecutorConfig:
    if "KUBERNETES_SERVICE_HOST" not in os.environ or "AIRFLOW_IS_K8S_EXECUTOR_POD" in os.environ:
        return {}
    from kubernetes.client import models as k8s

    memory = f"{round(size.memory_gib * 1024)}Mi"
    gpu_limit = {GPU_RESOURCE: str(gpus)} if gpus else {}
    container = k8s.V1Container(
        name="base",
        image=full_name(image),
        resources=k8s.V1ResourceRequirements(
            requests={"cpu": f"{round(size.cores * 1000)}m", "memory": memory},
            limits={"memory": memory, **gpu_limit},
        ),
    )
    tolerations = [k8s.V1Toleration(key=key, operator="Exists") for key in _taints(pool, gpus=bool(gpus))]
    spec = k8s.V1PodSpec(
        containers=[container],
        automount_service_account_token=token or None,
        node_selector={POOL_LABEL: pool} if pool and _node_pools() else None,
        tolerations=tolerations or None,
    )
    if gpus > 1:
        # GPUs of one pod exchange data through shared memory, of which a container has 64 MiB.
        memory_volume = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit="1Gi")
        spec.volumes = [k8s.V1Volume(name=SHARED_MEMORY, empty_dir=memory_volume)]
        container.volume_mounts = [k8s.V1VolumeMount(name=SHARED_MEMORY, mount_path="/dev/shm")]  # noqa: S108
    return {"pod_override": k8s.V1Pod(spec=spec)}
