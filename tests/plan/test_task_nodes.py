"""The nodes that `make plan` expects for the tasks of each DAG."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import OperationError
from ops.plan.cost import NODE_POOL_TYPE
from ops.plan.manifests import CHART_TYPE
from ops.plan.resources import Recording, Resource
from ops.plan.task_nodes import TaskNode, TaskPod, task_nodes
from ops.plan.usage import stated_usage
from tests.recordings import recorded


def nodes_of(recording: Recording) -> list[TaskNode]:
    return task_nodes(recording, stated_usage())


def changed(recording: Recording, kind: str, change: Any) -> Recording:
    """Return a recording with other inputs of the resources of a type."""

    def copy(resource: Resource) -> Resource:
        inputs: Mapping[str, Any] = json.loads(json.dumps(resource.inputs))
        change(inputs)
        return replace(resource, inputs=inputs)

    resources = tuple(copy(one) if one.type == kind else one for one in recording.resources)
    return replace(recording, resources=resources)


@pytest.fixture(scope="module")
def nodes() -> list[TaskNode]:
    return nodes_of(recorded("dev"))


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_every_task_fits_the_node_pools_of_every_stack(stack: str) -> None:
    assert nodes_of(recorded(stack))


def test_the_task_that_trains_on_a_gpu_gets_the_cheapest_node_with_one(nodes: list[TaskNode]) -> None:
    [training] = [node for node in nodes if node.request.gpus]
    assert (training.dag_id, training.tasks) == ("image_classifier", ("train",))
    assert training.request.text == "3 vCPU, 12 GiB, 1 GPU"
    assert (training.request.pool, training.instance) == ("gpu", "g6.xlarge Spot")
    # Spot at 45 % of On-Demand, and 12 % for EKS Auto Mode.
    assert training.usd == pytest.approx(0.8048 * 0.45 + 0.8048 * 0.12)


def test_every_other_task_gets_a_node_of_the_cpu_pool(nodes: list[TaskNode]) -> None:
    others = [node for node in nodes if not node.request.gpus]
    assert {node.dag_id for node in others} >= {"flight_features", "flight_model", "image_classifier", "smoke_test"}
    assert {(node.request.pool, node.instance) for node in others} == {("cpu", "t3a.medium Spot")}


@pytest.mark.parametrize(
    ("limit", "value", "sentence"),
    [
        ("cpu", "2", "4 vCPUs of g6.xlarge exceed max_cpus, 2: raise the limit in airflow:node_pools, or request less"),
        ("memory", "8Gi", "16 GiB of g6.xlarge exceed max_memory_gib, 8Gi: raise the limit"),
        ("nvidia.com/gpu", "0", "1 GPUs of g6.xlarge exceed max_gpus, 0: raise the limit"),
    ],
)
def test_a_limit_that_is_too_small_for_a_task_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: str, sentence: str
) -> None:
    def lower(inputs: Any) -> None:
        if inputs["metadata"]["name"] == "gpu":
            inputs["spec"]["limits"][limit] = value

    resources = {"requests": {"cpu": "3", "memory": "12Gi"}, "limits": {"nvidia.com/gpu": "1"}}
    pod = {"nodeSelector": {"karpenter.sh/nodepool": "gpu"}, "containers": [{"resources": resources}]}
    monkeypatch.setattr("ops.plan.task_nodes.task_pods", lambda _: [TaskPod("image_classifier", "train", pod)])
    with pytest.raises(OperationError) as caught:
        nodes_of(changed(recorded("dev"), NODE_POOL_TYPE, lower))
    prefix = "dags/image_classifier: train cannot start in the node pool gpu, because "
    assert str(caught.value).startswith(f"{prefix}{sentence}")


def test_a_dag_that_names_an_unknown_node_pool_is_one_sentence() -> None:
    def rename(inputs: Any) -> None:
        [variable] = [one for one in inputs["values"]["env"] if one["name"] == "NODE_POOLS"]
        variable["value"] = json.dumps({"cpu": [], "large": ["nvidia.com/gpu"]})

    with pytest.raises(OperationError) as caught:
        nodes_of(changed(recorded("dev"), CHART_TYPE, rename))
    assert str(caught.value) == (
        "dags/image_classifier/image_classifier_dag.py cannot be parsed as in dev: ValueError: this stack has no node "
        "pool gpu with GPUs: choose from large, or add it to airflow:node_pools in the stack's settings"
    )


def test_a_stack_without_node_pools_or_prices_has_no_nodes_to_show() -> None:
    assert nodes_of(recorded("local")) == []
    assert nodes_of(replace(recorded("dev"), region="eu-central-1")) == []
