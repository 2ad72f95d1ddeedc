"""The pods of tasks on Kubernetes: which image, how much CPU and memory, whether a GPU, and with whose rights.

Each function returns a task's `executor_config`, which Airflow merges into the pod template of the cluster. Where tasks
are no pods, and in a pod that runs one already, it is empty: loading Kubernetes' client takes longer than all the rest
of a DAG file.
"""

import os
from dataclasses import dataclass
from typing import Any

ExecutorConfig = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What a pod gets.

    Attributes:
        cores: CPU that is its own; it takes what else its node has to spare.
        memory_gib: Memory that is its own, and all that it may take.
    """

    cores: float
    memory_gib: float


# Small enough for a cluster on a laptop; steps wait for the object store more than they compute.
CPU = Size(cores=0.25, memory_gib=2)
# What a node with one GPU, 4 vCPUs and 16 GiB leaves to its pod.
GPU = Size(cores=3, memory_gib=12)

GPU_RESOURCE = "nvidia.com/gpu"


def on_cpu(size: Size = CPU, image: str = "ml", service_account: str | None = None) -> ExecutorConfig:
    """A pod on a CPU node.

    `image` is the name of a folder in images/. A task that calls the Kubernetes API names a `service_account` and gets
    its token; no other task has one.
    """
    return _executor_config(size, image, service_account, gpus=0)


def on_gpu(gpus: int = 1, size: Size = GPU, image: str = "ml", instead: Size = CPU) -> ExecutorConfig:
    """A pod on a GPU node; where the cluster has none, the same on a CPU node in the size `instead`."""
    if os.environ.get("GPU_NODES") == "true":
        return _executor_config(size, image, None, gpus)
    return on_cpu(instead, image)


def _executor_config(size: Size, image: str, service_account: str | None, gpus: int) -> ExecutorConfig:
    if "KUBERNETES_SERVICE_HOST" not in os.environ or "AIRFLOW_IS_K8S_EXECUTOR_POD" in os.environ:
        return {}
    from kubernetes.client import models as k8s

    memory = f"{round(size.memory_gib * 1024)}Mi"
    gpu_limit = {GPU_RESOURCE: str(gpus)} if gpus else {}
    container = k8s.V1Container(
        name="base",
        image=_full_name(image),
        resources=k8s.V1ResourceRequirements(
            requests={"cpu": f"{round(size.cores * 1000)}m", "memory": memory},
            limits={"memory": memory, **gpu_limit},
        ),
    )
    spec = k8s.V1PodSpec(
        containers=[container],
        service_account_name=service_account,
        automount_service_account_token=True if service_account else None,
        tolerations=[k8s.V1Toleration(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")] if gpus else None,
    )
    return {"pod_override": k8s.V1Pod(spec=spec)}


def _full_name(image: str) -> str:
    variable = f"{image.upper()}_IMAGE"
    if variable not in os.environ:
        raise ValueError(f"{variable} is not set: it names the container image of images/{image} with its tag.")
    return os.environ[variable]
