"""Roll out serving on Kubernetes: apply its objects and wait until the new version answers or cannot start."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.serving_manifests import PORT, Manifest, ServingSettings, manifests

DEADLINE_SECONDS = 300
POLL_SECONDS = 2
# Longer than a pod's grace period: a pod that still exists then is on a node that does not answer.
OLD_PODS_SECONDS = 45
REVISION = "deployment.kubernetes.io/revision"
FATAL_WAITING_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
}


def roll_out(settings: ServingSettings, version: str, secrets: Mapping[str, str] | None = None) -> str:
    """Serve `version` and wait until no older version answers.

    Args:
        settings: How to serve.
        version: The version of the model.
        secrets: Secret variables of the server; None if it takes none.

    Returns:
        The endpoint's URL inside the cluster.

    Raises:
        PermanentError: The new pod cannot start; the old one keeps serving.
        ServiceUnavailableError: The new pod is not ready before the deadline, or the cluster does not answer.
    """
    try:
        _load_access()
        with client.ApiClient() as api:
            objects = manifests(settings, version, secrets)
            _apply(DynamicClient(api), objects, f"{settings.name}-dag")
            apps, core = client.AppsV1Api(api), client.CoreV1Api(api)
            _wait(apps, core, settings)
            _wait_for_old_pods_to_end(apps, core, settings)
    except ApiException as error:
        kind = ServiceUnavailableError if (error.status or 500) >= 500 else PermanentError
        raise kind(f"Kubernetes refused to deploy version {version}: {error.status} {error.reason}.") from error
    except HTTPError as error:
        raise ServiceUnavailableError(f"The Kubernetes API does not answer: {error}.") from error
    return f"http://{settings.name}.{settings.namespace}.svc:{PORT}"


def _load_access() -> None:
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except config.ConfigException as error:
            raise PermanentError(
                "This task has no access to a Kubernetes cluster: give its pod a service account that may deploy, or "
                "set SERVING_ROLLOUT_COMMAND."
            ) from error


def _apply(dynamic: DynamicClient, objects: Iterable[Manifest], field_manager: str) -> None:
    for manifest in objects:
        resource = dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        dynamic.server_side_apply(resource, body=manifest, field_manager=field_manager, force_conflicts=True)


def _wait(apps: client.AppsV1Api, core: client.CoreV1Api, settings: ServingSettings) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        deployment = apps.read_namespaced_deployment(settings.name, settings.namespace)
        if is_rolled_out(deployment):
            return
        newest, _ = _newest_and_old_pods(apps, core, deployment)
        for pod in newest:
            if reason := fatal_reason(pod):
                raise PermanentError(f"The new serving pod cannot start, so the old version keeps serving: {reason}")
        time.sleep(POLL_SECONDS)
    raise ServiceUnavailableError(
        f"The new serving pod was not ready after {DEADLINE_SECONDS} s, so the old version keeps serving: "
        f"run `kubectl -n {settings.namespace} describe deployment {settings.name}` to see why."
    )


def _wait_for_old_pods_to_end(apps: client.AppsV1Api, core: client.CoreV1Api, settings: ServingSettings) -> None:
    deadline = time.monotonic() + OLD_PODS_SECONDS
    while time.monotonic() < deadline:
        _, old = _newest_and_old_pods(apps, core, apps.read_namespaced_deployment(settings.name, settings.namespace))
        if not old:
            return
        time.sleep(POLL_SECONDS)


def _newest_and_old_pods(
    apps: client.AppsV1Api, core: client.CoreV1Api, deployment: Any
) -> tuple[list[Any], list[Any]]:
    """Return the pods of the latest specification, and those of earlier ones that have not ended yet."""
    if deployment.status.observed_generation != deployment.metadata.generation:
        return [], []
    namespace = deployment.metadata.namespace
    selector = ",".join(f"{name}={value}" for name, value in deployment.spec.selector.match_labels.items())
    revision = deployment.metadata.annotations[REVISION]
    replica_sets = apps.list_namespaced_replica_set(namespace, label_selector=selector).items
    latest = {one.metadata.uid for one in replica_sets if one.metadata.annotations[REVISION] == revision}
    newest: list[Any] = []
    old: list[Any] = []
    for pod in core.list_namespaced_pod(namespace, label_selector=selector).items:
        owners = {owner.uid for owner in pod.metadata.owner_references or []}
        (newest if latest & owners else old).append(pod)
    return newest, old


def is_rolled_out(deployment: Any) -> bool:
    """Return whether all pods have the latest specification and are available; old ones may still be ending."""
    status, wanted = deployment.status, deployment.spec.replicas
    return bool(
        status.observed_generation == deployment.metadata.generation
        and status.updated_replicas == wanted
        and status.available_replicas == wanted
        and status.replicas == wanted
    )


def fatal_reason(pod: Any) -> str | None:
    """Explain why a container of `pod` cannot start, or return None."""
    for container in pod.status.container_statuses or []:
        waiting = container.state.waiting
        if waiting and waiting.reason in FATAL_WAITING_REASONS:
            detail = (waiting.message or "no message").rstrip(".")
            return f"{waiting.reason} for {container.image} in pod {pod.metadata.name} ({detail})."
    return None
