"""What DAGs declare must be what a stack's node pools offer."""

from collections.abc import Iterator, Mapping

import pulumi

from infra.airflow_names import GPU_POOL
from infra.dag_declarations import DagDeclaration
from infra.errors import OperationError
from infra.settings import NodePoolSettings

Pools = Mapping[str, NodePoolSettings]


class DagPoolError(OperationError, pulumi.RunError):
    """Declarations that do not fit a stack's node pools: one sentence for each mistake, with the file and the key."""


def check_dag_pools(stack: str, pools: Pools, dags: Mapping[str, DagDeclaration]) -> None:
    """Check that a stack has the node pools and GPUs that DAGs declare; without GPUs, all tasks run on CPUs.

    Raises:
        DagPoolError: It does not.
    """
    mistakes = [
        f"dags/{dag_id}/dag.yaml: {mistake}" for dag_id, dag in dags.items() for mistake in _mistakes(stack, pools, dag)
    ]
    if mistakes:
        raise DagPoolError("\n".join(mistakes))


def _mistakes(stack: str, pools: Pools, dag: DagDeclaration) -> Iterator[str]:
    with_gpus = {name: pool.max_gpus for name, pool in pools.items() if pool.max_gpus}
    if dag.gpus and not with_gpus:
        return
    offered = [name for name in pools if (name in with_gpus) == bool(dag.gpus)]
    name = dag.node_pool or (GPU_POOL if dag.gpus else None)
    if name is None:
        return
    if name not in offered:
        kind = "with GPUs" if dag.gpus else "without GPUs"
        yield (
            f"node_pool: {stack} has no node pool {name} {kind}: choose from {', '.join(offered)}, or add it to "
            f"airflow:node_pools in Pulumi.{stack}.yaml"
        )
    elif dag.gpus > with_gpus.get(name, 0):
        yield (
            f"gpus: {dag.gpus} is more than max_gpus of the node pool {name} in Pulumi.{stack}.yaml, "
            f"{with_gpus[name]}: raise max_gpus, or declare fewer"
        )
