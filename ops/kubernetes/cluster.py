"""Read and change objects in a Kubernetes cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from infra.errors import OperationError
from ops.kubernetes.diagnosis import Namespace

TIMEOUT_SECONDS = 10
LOG_LINES = 40
# The kubelet returns this text as the log while it cleans up a container.
NO_LOG = "unable to retrieve container logs"


def client_of(context: str) -> Any:
    """Return a client for a context of the user's kubeconfig.

    Raises:
        OperationError: The kubeconfig gives no access to the context.
    """
    try:
        return kubernetes.config.new_client_from_config(context=context)
    except (kubernetes.config.ConfigException, OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise OperationError(
            f"the kubeconfig gives no access to {context} ({reason}): check that `kubectl get nodes` works"
        ) from error


@dataclass(frozen=True)
class Cluster:
    """A cluster and the credentials to access it.

    Attributes:
        context: The name of the context.
        client: The API client.
        access: The content of the kubeconfig; None for the user's own kubeconfig.
    """

    context: str
    client: Any
    access: Mapping[str, Any] | None = None

    @classmethod
    def of_context(cls, context: str) -> Cluster:
        """Return the cluster of a context of the user's kubeconfig.

        Raises:
            OperationError: The kubeconfig gives no access to the context.
        """
        return cls(context, client_of(context))

    @classmethod
    def of_access(cls, access: Mapping[str, Any]) -> Cluster:
        """Return the cluster that a kubeconfig's content describes."""
        return cls(access["current-context"], kubernetes.config.new_client_from_config_dict(dict(access)), access)

    def check(self) -> None:
        """Check that the cluster responds.

        Raises:
            OperationError: The cluster does not respond.
        """
        with self.errors():
            kubernetes.client.VersionApi(self.client).get_code(_request_timeout=TIMEOUT_SECONDS)

    def namespace(self, name: str) -> Namespace:
        """Return the pods, claims and events of a namespace; empty if the namespace does not exist.

        Raises:
            OperationError: The request to the cluster failed.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            return Namespace(
                pods=_items(core.list_namespaced_pod, name),
                claims=_items(core.list_namespaced_persistent_volume_claim, name),
                events=_items(core.list_namespaced_event, name),
            )

    def log(self, namespace: str, pod: str, container: str) -> str:
        """Return the last log lines of a container: of the current run, else of the previous one."""
        core = kubernetes.client.CoreV1Api(self.client)
        for previous in (False, True):
            try:
                answer = core.read_namespaced_pod_log(
                    pod,
                    namespace,
                    container=container,
                    previous=previous,
                    tail_lines=LOG_LINES,
                    _preload_content=False,
                    _request_timeout=TIMEOUT_SECONDS,
                )
            except (ApiException, HTTPError):
                continue
            text = answer.data.decode(errors="replace")
            if text and not text.startswith(NO_LOG):
                return str(text)
        return ""

    def services(self, namespace: str, labels: str) -> list[str]:
        """Return the names of the Services with these labels, such as `component=api-server`.

        Raises:
            OperationError: The request to the cluster failed.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            found = core.list_namespaced_service(namespace, label_selector=labels, _request_timeout=TIMEOUT_SECONDS)
            return [service.metadata.name for service in found.items]

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces.

        Raises:
            OperationError: The request to the cluster failed.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            return [item.metadata.name for item in core.list_namespace(_request_timeout=TIMEOUT_SECONDS).items]

    def volumes_of(self, namespaces: Collection[str]) -> list[str]:
        """Return the names of the volumes that are or were bound to claims of these namespaces.

        Raises:
            OperationError: The request to the cluster failed.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            volumes = core.list_persistent_volume(_request_timeout=TIMEOUT_SECONDS).items
        claimed = [volume for volume in volumes if volume.spec.claim_ref]
        return [volume.metadata.name for volume in claimed if volume.spec.claim_ref.namespace in namespaces]

    def has(self, thing: Mapping[str, Any]) -> bool:
        """Return whether the object with this kind and name exists.

        Raises:
            OperationError: The request to the cluster failed.
        """
        metadata = thing["metadata"]
        with self.errors():
            try:
                kind = DynamicClient(self.client).resources.get(api_version=thing["apiVersion"], kind=thing["kind"])
                kind.get(name=metadata["name"], namespace=metadata.get("namespace"))
            except (NotFoundError, ResourceNotFoundError):
                return False
            return True

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return the data of a Secret, in base64; None if it does not exist.

        Raises:
            OperationError: The request to the cluster failed.
        """
        with self.errors():
            try:
                found = kubernetes.client.CoreV1Api(self.client).read_namespaced_secret(
                    name, namespace, _request_timeout=TIMEOUT_SECONDS
                )
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
            return dict(found.data or {})

    def put_secret(self, namespace: str, name: str, content: Mapping[str, str]) -> None:
        """Create a Secret, or replace its data.

        Raises:
            OperationError: The request to the cluster failed, or the namespace does not exist.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        body = {"metadata": {"name": name}, "stringData": dict(content)}
        with self.errors():
            try:
                core.create_namespaced_secret(namespace, body, _request_timeout=TIMEOUT_SECONDS)
            except ApiException as error:
                if error.status != 409:
                    raise
                core.replace_namespaced_secret(name, namespace, body, _request_timeout=TIMEOUT_SECONDS)

    def secrets(self, namespace: str) -> list[str]:
        """Return the names of the Secrets in a namespace, newest first.

        Raises:
            OperationError: The request to the cluster failed.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            found = core.list_namespaced_secret(namespace, _request_timeout=TIMEOUT_SECONDS).items
        newest = sorted(found, key=lambda secret: secret.metadata.creation_timestamp, reverse=True)
        return [secret.metadata.name for secret in newest]

    def job(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Job; None if it does not exist.

        Raises:
            OperationError: The request to the cluster failed.
        """
        batch = kubernetes.client.BatchV1Api(self.client)
        with self.errors():
            try:
                answer = batch.read_namespaced_job(
                    name, namespace, _preload_content=False, _request_timeout=TIMEOUT_SECONDS
                )
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
            return dict(json.loads(answer.data))

    def create_job(self, namespace: str, manifest: Mapping[str, Any]) -> bool:
        """Create a Job; return False if one with this name exists.

        Raises:
            OperationError: The cluster refused the Job.
        """
        batch = kubernetes.client.BatchV1Api(self.client)
        with self.errors():
            try:
                batch.create_namespaced_job(namespace, manifest, _request_timeout=TIMEOUT_SECONDS)
            except ApiException as error:
                if error.status == 409:
                    return False
                raise
            return True

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete a Job if it exists. Kubernetes removes it after its pods.

        Raises:
            OperationError: The request to the cluster failed.
        """
        batch = kubernetes.client.BatchV1Api(self.client)
        with self.errors():
            try:
                batch.delete_namespaced_job(
                    name, namespace, propagation_policy="Foreground", _request_timeout=TIMEOUT_SECONDS
                )
            except ApiException as error:
                if error.status != 404:
                    raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the API and its client into one sentence.

        Raises:
            OperationError: The cluster refused a request or did not respond.
        """
        try:
            yield
        except ApiException as error:
            raise OperationError(
                f"the cluster {self.context} refused the request ({error.status} {error.reason}): check that you have "
                "administrator access"
            ) from error
        except (HTTPError, OSError) as error:
            raise OperationError(
                f"the cluster {self.context} does not respond: start it, or check that you can reach its API"
            ) from error


def _items(ask: Callable[..., Any], namespace: str) -> Sequence[Mapping[str, Any]]:
    """Return objects in the API's JSON format."""
    answer = ask(namespace, _preload_content=False, _request_timeout=TIMEOUT_SECONDS)
    return list(json.loads(answer.data)["items"])
