"""The pods of a DAG's tasks on Kubernetes: image, CPU, memory and GPUs.

`PODS = pods.of(__file__)` in a DAG file reads the image and the GPUs from the `dag.yaml` next to it. The methods return
a task's `executor_config`, which Airflow merges into the cluster's pod template. It is empty where tasks do not run in
pods, and inside a task's pod: importing the Kubernetes client takes longer than the rest of a DAG file. The scheduler
adds the service account of the DAG.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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
DEFAULT_IMAGE = "ml"


@dataclass(frozen=True)
class Pods:
    """The pods of one DAG.

    Attributes:
        image: The name of a folder in images/.
        gpus: The number of GPUs that a task may use.
    """

    image: str
    gpus: int = 0

    def on_cpu(self, size: Size = CPU, image: str | None = None, *, deploys: bool = False) -> ExecutorConfig:
        """Run the task in a pod on a CPU node.

        Args:
            size: The pod's resources.
            image: Another image than the DAG's, for this task.
            deploys: Whether the task calls the Kubernetes API to deploy what the DAG serves; other tasks get no token.
        """
        return _executor_config(size, image or self.image, gpus=0, token=deploys)

    def on_gpu(self, size: Size = GPU, image: str | None = None, instead: Size = CPU) -> ExecutorConfig:
        """Run the task in a pod with the DAG's GPUs or, in a cluster without GPUs, in a CPU pod of the size `instead`.

        Raises:
            ValueError: The DAG declares no GPUs.
        """
        if not self.gpus:
            raise ValueError("on_gpu() needs GPUs: set `gpus: 1` in the dag.yaml of this DAG")
        if os.environ.get("GPU_NODES") == "true":
            return _executor_config(size, image or self.image, self.gpus, token=False)
        return self.on_cpu(instead, image)


def of(dag_file: str) -> Pods:
    """Return the pods of the DAG in a file, as the `dag.yaml` next to it declares them."""
    declaration = Path(dag_file).with_name("dag.yaml")
    content = (yaml.safe_load(declaration.read_text()) if declaration.exists() else None) or {}
    return Pods(content.get("image", DEFAULT_IMAGE), content.get("gpus", 0))


def _executor_config(size: Size, image: str, gpus: int, *, token: bool) -> ExecutorConfig:
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
    spec = k8s.V1PodSpec(
        containers=[container],
        automount_service_account_token=token or None,
        tolerations=[k8s.V1Toleration(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")] if gpus else None,
    )
    return {"pod_override": k8s.V1Pod(spec=spec)}
