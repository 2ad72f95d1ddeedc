"""Karpenter on the test cluster: its controllers are real, and its nodes are kwok's, which run nothing.

`python -m tests.cluster.karpenter` builds both. Its instance types are those of the price table, and its node pools
those of a stack, with what EKS Auto Mode adds.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from infra.airflow_names import GPU_RESOURCE
from ops.plan.cost import NODE_POOL_TYPE
from ops.plan.manifests import Object
from ops.plan.prices import Instance
from ops.plan.resources import Recording
from ops.plan.usage import stated_usage
from tests.servers import free_port

CRDS = ("pkg/apis/crds", "kwok/apis/crds")
STAGES = ("node/fast", "node/heartbeat", "pod/fast")
NODE_CLASS: Object = {
    "apiVersion": "karpenter.kwok.sh/v1alpha1",
    "kind": "KWOKNodeClass",
    "metadata": {"name": "default"},
}
# https://docs.aws.amazon.com/eks/latest/userguide/create-node-pool.html
AUTO_MODE = {"expireAfter": "336h", "terminationGracePeriod": "24h"}
# Shorter than in the settings, so that the proof does not take that long.
CONSOLIDATE_AFTER = "5s"
# Clients try for up to a minute to list objects by a watch, which the test cluster's storage does not support.
WITHOUT_WATCH_LISTS = {"KUBE_FEATURE_WatchListClient": "false"}

ZONE = "us-east-1a"
# What kwok's provider reserves on each node.
RESERVED_MEMORY_GIB = 10 / 1024


@dataclass(frozen=True)
class Program:
    """A program in a Go module, with corrections of one file: texts by what they replace."""

    module: str
    version: str
    package: str
    file: str
    corrections: Mapping[str, str]

    def source(self) -> Path:
        """Return the module's folder; download it if it is not in this machine's cache."""
        command = ["go", "mod", "download", "-json", f"{self.module}@{self.version}"]
        return Path(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["Dir"])

    def path(self) -> Path:
        """Return the program; build it if it is not in this machine's cache."""
        name = self.module.rpartition("/")[2]
        corrected = hashlib.sha256(json.dumps([self.file, self.corrections]).encode()).hexdigest()[:8]
        cache = Path(platformdirs.user_cache_dir("airflow-on-kubernetes"))
        program = cache / name / f"{self.version}-{corrected}" / name
        if not program.exists():
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / name
                shutil.copytree(self.source(), source, copy_function=shutil.copyfile)
                self._correct(source / self.file)
                command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), self.package]
                subprocess.run(command, check=True, cwd=source)
        return program

    def _correct(self, file: Path) -> None:
        text = file.read_text()
        for found, correction in self.corrections.items():
            assert text.count(found) == 1, f"{self.module} {self.version} has not once {found!r} in {self.file}"
            text = text.replace(found, correction)
        file.write_text(text)


KARPENTER = Program(
    module="sigs.k8s.io/karpenter",
    version="v1.13.0",
    package="./kwok",
    file="kwok/cloudprovider/cloudprovider.go",
    corrections={
        # Limits count the capacity of an instance, instead of which the provider reports the requests of its pods.
        "Capacity:    nodeClaim.Spec.Resources.Requests,": "Capacity: instanceType.Capacity,",
        # A real node has the taints of its pool from the start: it never takes a pod that does not tolerate them.
        "[]corev1.Taint{v1.UnregisteredNoExecuteTaint}": (
            "append([]corev1.Taint{v1.UnregisteredNoExecuteTaint}, nodeClaim.Spec.Taints...)"
        ),
    },
)
KWOK = Program(
    module="sigs.k8s.io/kwok",
    version="v0.8.0",
    package="./cmd/kwok",
    file="pkg/utils/informer/event.go",
    corrections={
        # A watch from version 0 sends all objects first, which the test cluster's storage refuses: kwok would see
        # changes only when it lists objects again, up to a minute later.
        "if !o.EnableListPager || o.EnableStreamWatch {": (
            'if opts.ResourceVersion == "" && (!o.EnableListPager || o.EnableStreamWatch) {'
        ),
    },
)


def build() -> None:
    """Build the programs that are not in this machine's cache."""
    for program in (KARPENTER, KWOK):
        program.path()


def custom_resource_definitions() -> list[Object]:
    """Return Karpenter's kinds."""
    folders = [KARPENTER.source() / folder for folder in CRDS]
    return [yaml.safe_load(file.read_text()) for folder in folders for file in sorted(folder.glob("*.yaml"))]


def node_pools(recording: Recording) -> list[Object]:
    """Return the node pools of a stack, for the instance types of kwok's provider."""
    return [_node_pool(resource.inputs) for resource in recording.of_type(NODE_POOL_TYPE)]


def _node_pool(inputs: Mapping[str, Any]) -> Object:
    pool: Object = json.loads(json.dumps(inputs).replace("eks.amazonaws.com/", "karpenter.kwok.sh/"))
    pool["spec"]["disruption"]["consolidateAfter"] = CONSOLIDATE_AFTER
    reference = {"group": "karpenter.kwok.sh", "kind": NODE_CLASS["kind"], "name": NODE_CLASS["metadata"]["name"]}
    pool["spec"]["template"]["spec"] |= {**AUTO_MODE, "nodeClassRef": reference}
    return pool


def allocatable(instance: Instance) -> dict[str, float]:
    """Return what an instance leaves to pods, by the plan's assumption: vCPUs, GiB of memory, GPUs."""
    overhead = stated_usage().node_overhead
    memory_gib = instance.memory_gib * (1 - overhead.memory_share) - overhead.memory_gib
    return {"cpu": instance.vcpus - overhead.vcpu, "memory": memory_gib, GPU_RESOURCE: instance.gpus}


def hourly_price(instance: Instance, capacity_type: str) -> float:
    """Return the price of an instance in US dollars per hour."""
    return instance.price.usd * (stated_usage().spot_share if capacity_type == "spot" else 1)


def instance_types(instances: Iterable[Instance], without_spot: Collection[str] = ()) -> list[Object]:
    """Return instance types in the format of kwok's provider.

    Args:
        instances: The instances.
        without_spot: The families without Spot capacity. The provider ignores `Available`: an offering that is not
            available is left out, which is the same for Karpenter's scheduler.
    """
    return [_instance_type(instance, instance.type.partition(".")[0] not in without_spot) for instance in instances]


def _instance_type(instance: Instance, spot: bool) -> Object:
    left = allocatable(instance)
    memory_gib = left["memory"] + RESERVED_MEMORY_GIB
    return {
        "name": instance.type,
        "architecture": instance.architecture,
        "operatingSystems": ["linux"],
        "resources": {
            "cpu": str(instance.vcpus),
            "memory": f"{int(memory_gib * 1024)}Mi",
            "ephemeral-storage": "100Gi",
            **({GPU_RESOURCE: str(instance.gpus)} if instance.gpus else {}),
        },
        "offerings": [_offering(instance, kind) for kind in ("spot", "on-demand") if spot or kind != "spot"],
    }


def _offering(instance: Instance, capacity_type: str) -> Object:
    labels = {"karpenter.sh/capacity-type": capacity_type, "topology.kubernetes.io/zone": ZONE}
    return {
        "Price": hourly_price(instance, capacity_type),
        "Requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()],
    }


@contextmanager
def running_karpenter(types: list[Object], folder: Path) -> Iterator[None]:
    """Run Karpenter with these instance types; its log is in the folder."""
    (folder / "instance_types.json").write_text(json.dumps(types))
    variables = {
        "INSTANCE_TYPES_FILE_PATH": str(folder / "instance_types.json"),
        "DISABLE_LEADER_ELECTION": "true",
        "METRICS_PORT": str(free_port()),
        "HEALTH_PROBE_PORT": str(free_port()),
    }
    with running([str(KARPENTER.path())], folder / "karpenter.log", variables):
        yield


@contextmanager
def running_kwok(folder: Path) -> Iterator[None]:
    """Run kwok, which keeps the nodes of Karpenter ready and says that their pods run; its log is in the folder."""
    source = KWOK.source() / "kustomize" / "stage"
    files = [file for stage in STAGES for file in (source / stage).glob("*.yaml") if file.stem != "kustomization"]
    command = [
        *(str(KWOK.path()), "--kubeconfig", os.environ["KUBECONFIG"]),
        *("--manage-nodes-with-annotation-selector", "kwok.x-k8s.io/node=fake"),
        *(argument for file in files for argument in ("--config", str(file))),
    ]
    with running(command, folder / "kwok.log", {}):
        yield


@contextmanager
def running(command: list[str], log: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run a program."""
    environment = {**os.environ, **WITHOUT_WATCH_LISTS, **variables}
    with (
        log.open("a") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process,
    ):
        try:
            yield
            assert process.poll() is None, f"{command[0]} ended: {log.read_text()[-2000:]}"
        finally:
            process.terminate()


if __name__ == "__main__":
    build()
