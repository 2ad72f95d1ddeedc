"""The nodes that the tasks of DAGs get: the cheapest instance of their node pool that fits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from infra.airflow_names import CPU_POOL, GPU_RESOURCE, POOL_LABEL
from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.dags.parsing import answer_of
from ops.plan.cost import NODE_POOL_TYPE, capacity_price, capacity_type, instance_for, pool_name
from ops.plan.manifests import CHART_TYPE
from ops.plan.prices import Instance, Prices, prices_of
from ops.plan.resources import Recording, Resource
from ops.plan.usage import Size, Usage

DAGS = REPOSITORY / "dags"

# Prints the errors and the pods of all DAGs as the dag-processor sees them.
PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from kubernetes.client import ApiClient
bag = DagBag(sys.argv[1])
pods = [
    (dag_id, task.task_id, ApiClient().sanitize_for_serialization(task.executor_config["pod_override"].spec))
    for dag_id, dag in sorted(bag.dags.items())
    for task in dag.tasks
    if "pod_override" in (task.executor_config or {})
]
print(json.dumps({"errors": bag.import_errors, "pods": pods}))
"""


@dataclass(frozen=True)
class TaskPod:
    """What a DAG sets of the pod of a task: its specification, which is merged into the stack's pod template."""

    dag_id: str
    task_id: str
    pod: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What tasks ask for: a node pool, and the resources of a pod."""

    pool: str
    size: Size
    gpus: int

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> Request:
        """Read the specification of a pod."""
        resources = pod["containers"][0]["resources"]
        cpu, memory = (float(parse_quantity(resources["requests"][name])) for name in ("cpu", "memory"))
        pool = pod.get("nodeSelector", {}).get(POOL_LABEL, CPU_POOL)
        return cls(pool, Size(vcpu=cpu, memory_gib=memory / 2**30), int(resources["limits"].get(GPU_RESOURCE, 0)))

    @property
    def text(self) -> str:
        """The resources in words."""
        gpus = f", {self.gpus} GPU{'s' * (self.gpus > 1)}" if self.gpus else ""
        return f"{self.size.vcpu:g} vCPU, {self.size.memory_gib:g} GiB{gpus}"


@dataclass(frozen=True)
class TaskNode:
    """The node of tasks of a DAG that ask for the same.

    Attributes:
        dag_id: The DAG.
        tasks: The IDs of the tasks.
        request: What each of them asks for.
        instance: The EC2 instance type, and its capacity type.
        usd: US dollars per hour, with the fee of EKS Auto Mode.
    """

    dag_id: str
    tasks: tuple[str, ...]
    request: Request
    instance: str
    usd: float


def task_nodes(recording: Recording, usage: Usage) -> list[TaskNode]:
    """Return the nodes of the tasks of all DAGs; none for a stack without node pools, or without prices.

    Raises:
        OperationError: A DAG cannot be parsed as in this stack, or a task does not fit its node pool.
    """
    prices = prices_of(recording.region)
    if not recording.of_type(NODE_POOL_TYPE) or prices is None:
        return []
    return nodes_of(task_pods(recording), recording, prices, usage)


def nodes_of(tasks: Sequence[TaskPod], recording: Recording, prices: Prices, usage: Usage) -> list[TaskNode]:
    """Return the nodes of tasks.

    Raises:
        OperationError: A task does not fit its node pool.
    """
    pools = {pool_name(pool): pool for pool in recording.of_type(NODE_POOL_TYPE)}
    alike: dict[tuple[str, Request], list[str]] = defaultdict(list)
    for task in tasks:
        alike[task.dag_id, Request.of(task.pod)].append(task.task_id)
    return [_node(dag_id, tuple(names), request, pools, prices, usage) for (dag_id, request), names in alike.items()]


def _node(
    dag_id: str,
    tasks: tuple[str, ...],
    request: Request,
    pools: Mapping[str, Resource],
    prices: Prices,
    usage: Usage,
) -> TaskNode:
    if request.pool not in pools:
        raise OperationError(
            f"dags/{dag_id}: {', '.join(tasks)} selects the node pool {request.pool}, which this stack does not have: "
            f"choose from {', '.join(pools)}"
        )
    pool = pools[request.pool]
    instance = instance_for(pool, prices, usage.node_overhead.node_for(request.size), request.gpus)
    if exceeded := _exceeded(instance, pool):
        raise OperationError(
            f"dags/{dag_id}: {', '.join(tasks)} cannot start in the node pool {request.pool}, because {exceeded}: "
            "raise the limit in airflow:node_pools, or request less"
        )
    usd = capacity_price(instance, pool, usage).usd + prices.auto_mode(instance).usd
    return TaskNode(dag_id, tasks, request, f"{instance.type} {capacity_type(pool)}", usd)


def _exceeded(instance: Instance, pool: Resource) -> str | None:
    """Return which limit of a pool its first node would exceed."""
    limits = pool.inputs["spec"]["limits"]
    asked = {
        "cpu": (instance.vcpus, f"{instance.vcpus} vCPUs of {instance.type} exceed max_cpus"),
        "memory": (
            instance.memory_gib * 2**30,
            f"{instance.memory_gib:g} GiB of {instance.type} exceed max_memory_gib",
        ),
        GPU_RESOURCE: (instance.gpus, f"{instance.gpus} GPUs of {instance.type} exceed max_gpus"),
    }
    for name, (amount, sentence) in asked.items():
        if amount > float(parse_quantity(limits.get(name, "0"))):
            return f"{sentence}, {limits.get(name, 0)}"
    return None


def task_pods(recording: Recording) -> list[TaskPod]:
    """Return the pods of all tasks whose DAGs set a pod.

    Raises:
        OperationError: A DAG cannot be parsed.
    """
    [chart] = recording.of_type(CHART_TYPE)
    variables = {variable["name"]: variable["value"] for variable in chart.inputs["values"]["env"]}
    found = answer_of(PROGRAM, DAGS, variables)
    if found["errors"]:
        raise OperationError("\n".join(_sentence(recording.stack, *error) for error in found["errors"].items()))
    return [TaskPod(*pod) for pod in found["pods"]]


def _sentence(stack: str, file: str, traceback: str) -> str:
    return f"{DAGS.name}/{file.removeprefix(f'{DAGS}/')} cannot be parsed as in {stack}: {traceback.splitlines()[-1]}"
