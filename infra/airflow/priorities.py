"""Pod priorities and the quota of tasks: the control plane is scheduled before tasks."""

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core.v1 import ResourceQuotaSpecArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.airflow_platform import Platform
from infra.settings import TaskSettings

CONTROL_PLANE = "control-plane"
TASK = "task"

# Above the default of 0; the maximum for users is 10^9:
# https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
CONTROL_PLANE_VALUE = 1_000_000
TASK_VALUE = 0
# Below all pods of the base stack; the cluster autoscaler adds no nodes for priorities below -10.
GUEST_CONTROL_PLANE_VALUE = -1
GUEST_TASK_VALUE = -2


def class_name(namespace: str, kind: str) -> str:
    """Return the name of a priority class: unique in the cluster, which may run several Airflows."""
    return f"{namespace}-{kind}"


class Priorities(pulumi.ComponentResource):
    """The priority classes, and the quota of task pods."""

    def __init__(
        self,
        name: str,
        settings: TaskSettings,
        platform: Platform,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create them; the quota is that of the tasks' namespace, so it never blocks the control plane."""
        super().__init__("airflow:airflow:Priorities", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._namespace = platform.namespace

        value, task_value = (
            (GUEST_CONTROL_PLANE_VALUE, GUEST_TASK_VALUE) if platform.guest else (CONTROL_PLANE_VALUE, TASK_VALUE)
        )
        self._create_class(
            CONTROL_PLANE, value, "PreemptLowerPriority", "Airflow's components: they come before tasks."
        )
        self._create_class(TASK, task_value, "Never", "Airflow's tasks: they wait for room.")
        self._create_quota(settings, platform.tasks_namespace)

        self.register_outputs({})

    def _create_class(self, kind: str, value: int, preemption: str, description: str) -> None:
        kubernetes.scheduling.v1.PriorityClass(
            kind,
            metadata=ObjectMetaArgs(name=self._namespace.apply(lambda name: class_name(name, kind))),
            value=value,
            preemption_policy=preemption,
            description=description,
            opts=self._child_opts,
        )

    def _create_quota(self, settings: TaskSettings, namespace: pulumi.Output[str]) -> None:
        hard = {
            "pods": str(settings.max_pods),
            "requests.cpu": str(settings.max_cpus),
            "requests.memory": f"{settings.max_memory_gib}Gi",
        }
        kubernetes.core.v1.ResourceQuota(
            "tasks",
            metadata=ObjectMetaArgs(name="tasks", namespace=namespace),
            spec=ResourceQuotaSpecArgs(hard=hard),
            opts=self._child_opts,
        )
