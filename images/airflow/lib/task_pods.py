"""Airflow's KubernetesExecutor, extended so that a DAG cannot pass for another one: `task_pods.DagKubernetesExecutor`.

A DAG's author chooses parts of its pods (`pod_override`), which Airflow merges last. Here an author cannot choose the
service account, nor the labels and annotations by which Airflow finds the task of a pod, nor the name, by which EKS
finds the rules of network policies. A task whose pod is refused, here or by the Kubernetes API, fails at once, with
the reason in its log.
"""

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
from kubernetes.client import models as k8s

from airflow_local_settings import REFUSED

# The service account of each DAG of the deployed commit; the Pulumi program sets it in the scheduler.
ACCOUNTS: Mapping[str, str] = json.loads(os.environ.get("DAG_ACCOUNTS", "{}"))
# The pod template's account, for DAGs that were pushed after the last deployment.
DEFAULT = "airflow-task"

# What Airflow writes to the labels and annotations of a task's pod, to find the task of a pod.
IDENTITY = (
    *("dag_id", "task_id", "run_id", "map_index", "try_number", "logical_date", "ti_id", "task_instance_id"),
    *("airflow-worker", "airflow_version", "airflow_executor_done", "airflow_pod_revoked", "kubernetes_executor"),
)
# Answers of the Kubernetes API to a pod that it will never take.
REFUSALS = (400, 403, 422)


class RefusedPodError(ValueError):
    """A task asks for a pod that it may not have."""


class DagKubernetesExecutor(KubernetesExecutor):
    """An executor whose task pods have the identity and the service account of their DAG."""

    def execute_async(
        self, key: Any, command: Any, queue: str | None = None, executor_config: Any | None = None
    ) -> None:
        """Queue the pod of a task."""
        try:
            config = of_dag(command[0].ti.dag_id, executor_config)
        except RefusedPodError as error:
            config = refusal(str(error))
        super().execute_async(key, command, queue, config)

    def fail(self, key: Any, info: Any = None) -> None:
        """Fail a task; if the Kubernetes API refused its pod, let a pod that it takes do so."""
        attempt = self.pod_launch_attempts.get(key)
        if getattr(info, "status", None) in REFUSALS and attempt and not is_refused(attempt.job.kube_executor_config):
            super().execute_async(key, attempt.job.command, None, refusal(reason_of(info.body)))
        else:
            super().fail(key, info)


def of_dag(dag_id: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a task's `executor_config` with the service account of its DAG.

    Raises:
        RefusedPodError: The task asks for another account, or for another task's identity.
    """
    config = dict(config or {})
    account = ACCOUNTS.get(dag_id, DEFAULT)
    pod = deepcopy(config.get("pod_override")) or k8s.V1Pod()
    if not isinstance(pod, k8s.V1Pod):
        raise RefusedPodError("pod_override must be a kubernetes.client.models.V1Pod")
    metadata = pod.metadata or k8s.V1ObjectMeta()
    if claimed := sorted({*(metadata.labels or {}), *(metadata.annotations or {})}.intersection(IDENTITY)):
        raise RefusedPodError(f"only Airflow sets the labels and annotations {', '.join(claimed)}")
    if metadata.name:
        raise RefusedPodError("only Airflow names the pod of a task")
    # The client has no default for the list of containers, and Airflow's merge needs none of them.
    pod.spec = pod.spec or k8s.V1PodSpec(containers=[])
    if pod.spec.service_account_name not in (None, DEFAULT, account):
        raise RefusedPodError(f"the service account of {dag_id} is {account}, not {pod.spec.service_account_name}")
    pod.spec.service_account_name = account
    return config | {"pod_override": pod}


def refusal(reason: str) -> dict[str, Any]:
    """Return the `executor_config` of a pod that only fails its task; see airflow_local_settings.py."""
    container = k8s.V1Container(name="base", env=[k8s.V1EnvVar(name=REFUSED, value=reason)])
    return {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))}


def is_refused(pod: k8s.V1Pod | None) -> bool:
    """Return whether a pod only fails its task."""
    containers = pod.spec.containers if pod and pod.spec else []
    return any(variable.name == REFUSED for one in containers for variable in one.env or [])


def reason_of(body: Any) -> str:
    """Return why the Kubernetes API refused a pod, in the words of the policy if one did."""
    try:
        message = str(json.loads(body)["message"])
    except (KeyError, TypeError, ValueError):
        message = str(body)
    return message.rpartition("denied request: ")[2]
