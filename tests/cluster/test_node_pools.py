"""The node pools of the stacks under Karpenter, with the pods that Airflow creates for the tasks of the DAGs."""

import json
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient
from kubernetes.utils.quantity import parse_quantity
from scipy.optimize import linprog

from infra.airflow_names import GPU_RESOURCE, POOL_LABEL
from infra.documents import REPOSITORY
from ops.plan.cost import NODE_POOL_TYPE, pool_name, requirement
from ops.plan.manifests import Object, objects
from ops.plan.prices import Instance, Prices, prices_of
from ops.plan.resources import Recording
from ops.plan.task_nodes import Request, TaskNode, TaskPod, nodes_of, task_pods
from ops.plan.usage import stated_usage
from tests.recordings import recorded

from . import karpenter
from .stack import PATIENCE_SECONDS, apply, kubectl, wait_until

NAMESPACE = "node-pools"
CAPACITY = {"spot": "Spot", "on-demand": "On-Demand"}
# What the pods refer to; the rest of the stack is not needed.
KINDS = ("PriorityClass",)
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
MANY = 300
FACTOR = 1.3
PATIENCE = f"--timeout={PATIENCE_SECONDS}s"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not on PATH, which builds Karpenter and kwok")


@dataclass(frozen=True)
class Node:
    """A node that Karpenter has started."""

    name: str
    pool: str
    instance: str
    taints: tuple[str, ...]


@dataclass(frozen=True)
class Stack:
    """A stack: its resources, the prices of its region, its pod template and the pods of its DAGs' tasks."""

    recording: Recording
    prices: Prices
    template: Object
    tasks: Sequence[TaskPod]

    @classmethod
    def of(cls, name: str) -> "Stack":
        recording = recorded(name, REPOSITORY, reveal=True)
        prices = prices_of(recording.region)
        assert prices
        [settings] = [item for item in objects(recording) if item["metadata"]["name"] == "airflow-config"]
        template = yaml.safe_load(settings["data"]["pod_template_file.yaml"])
        return cls(recording, prices, template, task_pods(recording))

    @property
    def instances(self) -> list[Instance]:
        """The instances that the pools may start."""
        families = {
            family for pool in self.recording.of_type(NODE_POOL_TYPE) for family in requirement(pool, "instance-family")
        }
        return self.prices.instances_of(sorted(families))

    def limit(self, pool: str, resource: str) -> float:
        [limits] = [
            each.inputs["spec"]["limits"] for each in self.recording.of_type(NODE_POOL_TYPE) if pool_name(each) == pool
        ]
        return float(parse_quantity(limits[resource]))

    def planned(self) -> list[TaskNode]:
        """Return what `make plan` shows."""
        return nodes_of(self.tasks, self.recording, self.prices, stated_usage())

    def pod(self, task: TaskPod) -> Object:
        """Return the pod that Airflow creates for a task."""
        pod = PodGenerator.construct_pod(
            dag_id=task.dag_id,
            task_id=task.task_id,
            pod_id=task.task_id,
            try_number=1,
            kube_image="airflow:1",
            date=None,
            args=[],
            pod_override_object=PodGenerator.deserialize_model_dict({"spec": dict(task.pod)}),
            base_worker_pod=PodGenerator.deserialize_model_dict(self.template),
            namespace=NAMESPACE,
            scheduler_job_id="1",
        )
        made: Object = ApiClient().sanitize_for_serialization(pod)
        # kwok's nodes are ready when Karpenter registers them: Kubernetes may schedule a task there and then evict it,
        # because the part that evicts has not seen yet that this taint is gone.
        made["spec"].setdefault("tolerations", []).append({"key": "karpenter.sh/unregistered", "operator": "Exists"})
        return made

    def tasks_with(self, *, gpus: bool) -> list[TaskPod]:
        return [task for task in self.tasks if bool(Request.of(task.pod).gpus) == gpus]

    @property
    def gpu_task(self) -> TaskPod:
        return self.tasks_with(gpus=True)[0]

    @property
    def small_task(self) -> TaskPod:
        """A task with the default size."""
        return min(self.tasks_with(gpus=False), key=lambda task: Request.of(task.pod).size.vcpu)


@pytest.fixture(scope="module")
def dev() -> Stack:
    return Stack.of("dev")


@pytest.fixture(scope="module")
def prod(dev: Stack) -> Stack:
    """Return the node pools of `prod`; the pods of its tasks have other images only."""
    return replace(dev, recording=recorded("prod", REPOSITORY, reveal=True))


@pytest.fixture(scope="module")
def cluster(dev: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepare the cluster for Karpenter; its own nodes take no pods meanwhile."""
    try:
        karpenter.build()
    except subprocess.CalledProcessError:
        pytest.skip("Go cannot build Karpenter and kwok here")
    kinds = karpenter.custom_resource_definitions()
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": dev.template["spec"]["serviceAccountName"], "namespace": NAMESPACE},
    }
    referred = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *(item for item in objects(dev.recording) if item["kind"] in KINDS),
        account,
    ]
    schedulable = [node["metadata"]["name"] for node in get("nodes") if not node["spec"].get("unschedulable")]
    try:
        kubectl("cordon", *schedulable)
        apply([*kinds, *referred])
        names = (f"crd/{kind['metadata']['name']}" for kind in kinds)
        kubectl("wait", "--for=condition=Established", PATIENCE, *names)
        with karpenter.running_kwok(tmp_path_factory.mktemp("kwok")):
            yield
    finally:
        kubectl("uncordon", *schedulable)
        kubectl("delete", "--ignore-not-found", PATIENCE, "-f", "-", stdin=yaml.safe_dump_all([*kinds, *referred]))


@contextmanager
def pools_of(stack: Stack, folder: Path, without_spot: Collection[str] = ()) -> Iterator[Callable[[], None]]:
    """Run Karpenter with the node pools of a stack, and remove what it has made; give a function that restarts it."""
    pools = [karpenter.NODE_CLASS, *karpenter.node_pools(stack.recording)]
    types = karpenter.instance_types(stack.instances, without_spot)
    with ExitStack() as programs:

        def restart() -> None:
            programs.close()
            # Tests use the same names for their tasks, and events outlive what they are about.
            kubectl("delete", "events", "--all-namespaces", "--field-selector", "source=karpenter")
            programs.enter_context(karpenter.running_karpenter(types, folder))

        apply(pools)
        restart()
        # Karpenter tells one reason in five minutes why a task waits, which must not be that a pool is not ready.
        kubectl("wait", "--for=condition=Ready", "nodepools", "--all", PATIENCE)
        try:
            yield restart
        finally:
            clear()
            kubectl("delete", PATIENCE, "-f", "-", stdin=yaml.safe_dump_all(pools))


def clear() -> None:
    """Delete all tasks and nodes."""
    kubectl("delete", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods?gracePeriodSeconds=0")
    kubectl("delete", PATIENCE, "nodeclaims", "--all")
    wait_until(lambda: not nodes(), "the end of the nodes")


def get(kind: str, *arguments: str) -> list[Any]:
    items: list[Any] = json.loads(kubectl("get", kind, "--output", "json", *arguments))["items"]
    return items


def nodes() -> list[Node]:
    return [
        Node(
            name=node["metadata"]["name"],
            pool=(labels := node["metadata"]["labels"])[POOL_LABEL],
            instance=f"{labels['node.kubernetes.io/instance-type']} {CAPACITY[labels['karpenter.sh/capacity-type']]}",
            taints=tuple(taint["key"] for taint in node["spec"].get("taints", [])),
        )
        for node in get("nodes", "--selector", POOL_LABEL)
    ]


def create(stack: Stack, tasks: Sequence[TaskPod], name: str = "task") -> list[str]:
    """Create the pods of tasks, and return their names."""
    made = {(task.dag_id, task.task_id): stack.pod(task) for task in tasks}
    pods = [made[task.dag_id, task.task_id] for task in tasks]
    names = [f"{name}-{number}" for number in range(len(tasks))]
    items = [
        {**pod, "metadata": {**pod["metadata"], "name": own_name}} for pod, own_name in zip(pods, names, strict=True)
    ]
    kubectl("create", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return names


def running() -> set[str]:
    """Return the names of the tasks that run."""
    command = ("get", "pods", "--namespace", NAMESPACE, "--field-selector", "status.phase=Running", "--output", "name")
    return {name.removeprefix("pod/") for name in kubectl(*command).split()}


def run(stack: Stack, tasks: Sequence[TaskPod], name: str = "task") -> list[str]:
    """Create the pods of tasks, wait until all run on initialized nodes, and return their names."""
    names = create(stack, tasks, name)
    wait_until(lambda: running() >= set(names) and all_initialized(), f"{len(names)} tasks")
    return names


def all_initialized() -> bool:
    """Return whether Karpenter has initialized all nodes: it leaves behind those that it deletes earlier."""
    conditions = [node["status"].get("conditions", []) for node in get("nodeclaims")]
    return all(any((one["type"], one["status"]) == ("Initialized", "True") for one in each) for each in conditions)


def finish(*names: str) -> None:
    """End tasks, after which Airflow deletes their pods."""
    kubectl("delete", "pods", *names, "--namespace", NAMESPACE, "--grace-period=0", "--force")


def told(reason: str, kind: str, text: str) -> set[str]:
    """Return the names of the objects of which an event of this Karpenter with a reason says something."""
    found = get("events", "--all-namespaces", "--field-selector", f"reason={reason},involvedObject.kind={kind}")
    return {event["involvedObject"]["name"] for event in found if text in event["message"]}


def test_a_task_that_asks_for_a_gpu_gets_a_node_from_zero_which_goes_away_when_idle(
    cluster: None, dev: Stack, tmp_path: Path
) -> None:
    with pools_of(dev, tmp_path):
        assert nodes() == []
        run(dev, [dev.gpu_task])
        [node] = nodes()
        assert (node.pool, node.taints) == ("gpu", (GPU_RESOURCE,))
        finish("task-0")
        wait_until(lambda: not nodes(), "the end of the idle node")


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_every_task_gets_the_node_that_the_plan_shows(
    cluster: None, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stack: Stack = request.getfixturevalue(name)
    planned = {node.request: node.instance for node in stack.planned()}
    tasks = {Request.of(task.pod): task for task in stack.tasks}
    started = {}
    with pools_of(stack, tmp_path):
        for asked, task in tasks.items():
            run(stack, [task])
            [node] = nodes()
            assert node.pool == asked.pool
            started[asked] = node.instance
            clear()
    print(*(f"{name}: {asked.text}: {instance}" for asked, instance in started.items()), sep="\n")
    assert started == planned


def test_the_node_of_a_running_task_is_never_consolidated(cluster: None, dev: Stack, tmp_path: Path) -> None:
    with pools_of(dev, tmp_path) as restart_karpenter:
        # As many as the smallest node for them takes, so that the others get another node.
        kept, *finished = run(dev, [dev.small_task] * 3, "first")
        disrupted, *others = run(dev, [dev.small_task] * 3, "second")
        both = {node.name for node in nodes()}
        assert len(both) == 2
        finish(*finished, *others)
        # It tells one reason in two minutes why a node stays, and has told that tasks were on their way to it.
        restart_karpenter()
        wait_until(
            lambda: told("DisruptionBlocked", "Node", DO_NOT_DISRUPT) >= both, "Karpenter to consider both nodes"
        )
        assert {node.name for node in nodes()} == both
        # Nothing but the annotation kept them.
        kubectl("annotate", "pod", disrupted, f"{DO_NOT_DISRUPT}-", "--namespace", NAMESPACE)
        wait_until(lambda: len(nodes()) == 1, "the end of the node whose task may be disrupted")
        assert running() == {kept}


def test_the_limits_of_a_pool_hold(cluster: None, dev: Stack, tmp_path: Path) -> None:
    with pools_of(dev, tmp_path):
        with_gpu, without_gpu = create(dev, [dev.gpu_task] * 2, "gpu"), create(dev, [dev.small_task] * 40, "cpu")
        run_at_once = wait_until(lambda: settled(with_gpu, without_gpu), "each task to run or to wait for a limit")
        print(f"{len(run_at_once)} of {len(with_gpu + without_gpu)} tasks on {[node.instance for node in nodes()]}")
        assert_within_limits(dev)
        [on_gpu] = run_at_once.intersection(with_gpu)
        [waits] = set(with_gpu) - run_at_once
        finish(on_gpu)
        wait_until(lambda: waits in running(), "the node with a GPU to take the next task")
        assert_within_limits(dev)


def settled(*kinds: Sequence[str]) -> set[str]:
    """Return the names of the tasks that run, as soon as some of each kind do and the others were told of a limit.

    A task that was told of a limit may still run: Kubernetes may give it the node that was started for another.
    """
    run = running()
    waiting = set(chain(*kinds)) - run
    limited = told("FailedScheduling", "Pod", "exceed limits")
    return run if all(run.intersection(names) for names in kinds) and waiting <= limited else set()


def assert_within_limits(stack: Stack) -> None:
    used = used_resources()
    assert used["gpu", GPU_RESOURCE] == stack.limit("gpu", GPU_RESOURCE)
    assert {pool for pool, _ in used} == {"cpu", "gpu"}
    for (pool, resource), amount in used.items():
        assert amount <= stack.limit(pool, resource)


def used_resources() -> dict[tuple[str, str], float]:
    """Return the vCPUs, the bytes of memory and the GPUs of all nodes of each pool."""
    used: dict[tuple[str, str], float] = defaultdict(float)
    for node in get("nodes", "--selector", POOL_LABEL):
        for resource in ("cpu", "memory", GPU_RESOURCE):
            if amount := float(parse_quantity(node["status"]["capacity"].get(resource, "0"))):
                used[node["metadata"]["labels"][POOL_LABEL], resource] += amount
    return used


@pytest.mark.parametrize(
    ("without_spot", "cpu", "gpu"),
    [
        pytest.param({"t3a", "g6"}, "t3.medium Spot", "g5.xlarge Spot", id="in the cheapest families"),
        pytest.param(
            {"t3a", "t3", "m7a", "m6a", "m5a", "g6", "g5"},
            "t3a.medium On-Demand",
            "g6.xlarge On-Demand",
            id="in all families",
        ),
    ],
)
def test_tasks_get_other_nodes_where_spot_capacity_is_exhausted(
    cluster: None, dev: Stack, without_spot: Collection[str], cpu: str, gpu: str, tmp_path: Path
) -> None:
    with pools_of(dev, tmp_path, without_spot):
        run(dev, [dev.small_task, dev.gpu_task])
        assert {node.pool: node.instance for node in nodes()} == {"cpu": cpu, "gpu": gpu}


def test_many_tasks_cost_little_more_than_in_the_best_packing(cluster: None, prod: Stack, tmp_path: Path) -> None:
    tasks = list(islice(cycle(prod.tasks_with(gpus=False)), MANY))
    with pools_of(prod, tmp_path):
        run(prod, tasks)
        started = Counter(node.instance for node in nodes())
    table = {instance.type: instance for instance in prod.instances}
    usd = sum(table[name.split()[0]].price.usd * count for name, count in started.items())
    best = lowest_cost(tasks, [one for one in table.values() if not one.gpus])
    print(f"{MANY} tasks on {dict(started)}: {usd:.2f} $ per hour, {usd / best:.2f} times the lower bound {best:.2f} $")
    assert best <= usd < FACTOR * best


def lowest_cost(tasks: Sequence[TaskPod], instances: Sequence[Instance]) -> float:
    """Return a lower bound of the cost per hour of nodes for tasks: that of fractions of instances."""
    sizes = [Request.of(task.pod).size for task in tasks]
    needed = [sum(size.vcpu for size in sizes), sum(size.memory_gib for size in sizes)]
    left = [[karpenter.allocatable(instance)[resource] for instance in instances] for resource in ("cpu", "memory")]
    found = linprog(
        [instance.price.usd for instance in instances],
        A_ub=[[-amount for amount in row] for row in left],
        b_ub=[-amount for amount in needed],
    )
    return float(found.fun)
