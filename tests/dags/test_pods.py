"""The node pools of the pods of tasks."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml_common import pods

GPU = "nvidia.com/gpu"
# As in infra/airflow/values.py.
POOLS = json.dumps({"cpu": [], "gpu": [GPU], "large": [GPU, "node-pool"], "memory": ["node-pool"]})


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster whose stack has four node pools, as the dag-processor sees it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("ML_IMAGE", "ml:1")
    monkeypatch.setenv("NODE_POOLS", POOLS)


def placed(config: Any) -> tuple[Any, list[str]]:
    """Return the node pool that a pod selects, and the keys of the taints that it tolerates."""
    spec = config["pod_override"].spec
    assert all(one.operator == "Exists" and one.effect is None for one in spec.tolerations or [])
    return (spec.node_selector or {}).get("karpenter.sh/nodepool"), [one.key for one in spec.tolerations or []]


def test_the_declaration_of_a_dag_names_its_node_pool(tmp_path: Path) -> None:
    (tmp_path / "dag.yaml").write_text("{gpus: 1, node_pool: large}")
    assert pods.of(str(tmp_path / "churn_dag.py")) == pods.Pods("ml", 1, "large")


PLAIN, MEMORY, GPUS, LARGE = (
    pods.Pods("ml"),
    pods.Pods("ml", node_pool="memory"),
    pods.Pods("ml", 1),
    pods.Pods("ml", 1, "large"),
)


def test_a_task_without_gpus_selects_the_pool_that_it_or_its_dag_names() -> None:
    assert placed(PLAIN.on_cpu()) == (None, [])
    assert placed(PLAIN.on_cpu(pool="memory")) == ("memory", ["node-pool"])
    assert placed(MEMORY.on_cpu()) == ("memory", ["node-pool"])
    assert placed(MEMORY.on_cpu(pool="cpu")) == ("cpu", [])
    assert placed(LARGE.on_cpu()) == (None, [])


def test_a_task_with_gpus_selects_the_pool_that_it_or_its_dag_names() -> None:
    assert placed(GPUS.on_gpu()) == ("gpu", [GPU])
    assert placed(GPUS.on_gpu(pool="large")) == ("large", [GPU, "node-pool"])
    assert placed(LARGE.on_gpu()) == ("large", [GPU, "node-pool"])
    assert placed(LARGE.on_gpu(pool="gpu")) == ("gpu", [GPU])


@pytest.mark.parametrize("pool", ["big", "gpu"])
def test_a_pool_without_gpus_that_the_stack_does_not_have_is_one_sentence(pool: str) -> None:
    sentence = f"this stack has no node pool {pool} without GPUs: choose from cpu, memory, or add it to airflow:node_p"
    with pytest.raises(ValueError, match=sentence):
        PLAIN.on_cpu(pool=pool)
    with pytest.raises(ValueError, match=sentence):
        pods.Pods("ml", node_pool=pool).on_cpu()


@pytest.mark.parametrize("pool", ["big", "memory"])
def test_a_pool_with_gpus_that_the_stack_does_not_have_is_one_sentence(pool: str) -> None:
    with pytest.raises(ValueError, match=f"this stack has no node pool {pool} with GPUs: choose from gpu, large, or"):
        GPUS.on_gpu(pool=pool)


@pytest.mark.parametrize("pools", [None, "{}"], ids=["unset", "none"])
def test_a_cluster_without_node_pools_ignores_them(monkeypatch: pytest.MonkeyPatch, pools: str | None) -> None:
    if pools is None:
        monkeypatch.delenv("NODE_POOLS")
    else:
        monkeypatch.setenv("NODE_POOLS", pools)
    for config in (PLAIN.on_cpu(pool="memory"), MEMORY.on_cpu(), LARGE.on_gpu(), GPUS.on_gpu(pool="big")):
        assert placed(config) == (None, [])


def test_a_task_that_names_a_pool_with_gpus_runs_on_cpus_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_POOLS", '{"cpu": []}')
    assert placed(GPUS.on_gpu(pool="large", instead=pods.Size(2, 4))) == (None, [])


@pytest.mark.parametrize(("gpus", "mounts"), [(1, None), (4, ["/dev/shm"])])
def test_several_gpus_of_a_pod_share_memory(gpus: int, mounts: list[str] | None) -> None:
    spec = pods.Pods("ml", gpus).on_gpu()["pod_override"].spec
    [container] = spec.containers
    assert (container.volume_mounts and [mount.mount_path for mount in container.volume_mounts]) == mounts
    assert [volume.empty_dir.medium for volume in spec.volumes or []] == ["Memory"] * len(mounts or [])
