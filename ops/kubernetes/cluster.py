"""Ask a Kubernetes cluster."""

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
# What a kubelet answers, as if it were the log, while it tidies up after a container.
NO_LOG = "unable to retrieve container logs"


def client_of(context: str) -> Any:
    """Return a client of a context of the user's kubeconfig.

    Raises:
        OperationError: The kubeconfig gives no access to it.
    """
    try:
        return kubernetes.config.new_client_from_config(context=context)
    except (kubernetes.config.ConfigException, OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise OperationError(
            f"the kubeconfig gives no access to {context} ({reason}): see that `kubectl get nodes` works"
        ) from error


@dataclass(frozen=True)
class Cluster:
    """A cluster, by the credentials of a kubeconfig.

    Attributes:
        context: The name of the context.
        client: The credentials.
        access: The kubeconfig's content, where it is not the user's own.
    """

    context: str
    client: Any
    access: Mapping[str, Any] | None = None

    @classmethod
    def of_context(cls, context: str) -> Cluster:
        """Return the cluster of a context of the user's kubeconfig.

        Raises:
            OperationError: The kubeconfig gives no access to it.
        """
        return cls(context, client_of(context))

    @classmethod
    def of_access(cls, access: Mapping[str, Any]) -> Cluster:
        """Return the cluster of a kubeconfig's content."""
        return cls(access["current-context"], kubernetes.config.new_client_from_config_dict(dict(access)), access)

    def check(self) -> None:
        """See that the cluster answers.

        Raises:
            OperationError: It does not.
        """
        with self.errors():
            kubernetes.client.VersionApi(self.client).get_code(_request_timeout=TIMEOUT_SECONDS)

    def namespace(self, name: str) -> Namespace:
        """Return what is in a namespace; nothing where there is no such namespace.

        Raises:
            OperationError: The cluster cannot be asked.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            return Namespace(
                pods=_items(core.list_namespaced_pod, name),
                claims=_items(core.list_namespaced_persistent_volume_claim, name),
                events=_items(core.list_namespaced_event, name),
            )

    def log(self, namespace: str, pod: str, container: str) -> str:
        """Return the end of what a container has written: the last time that it ran, else the time before."""
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
            OperationError: The cluster cannot be asked.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            found = core.list_namespaced_service(namespace, label_selector=labels, _request_timeout=TIMEOUT_SECONDS)
            return [service.metadata.name for service in found.items]

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces.

        Raises:
            OperationError: The cluster cannot be asked.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            return [item.metadata.name for item in core.list_namespace(_request_timeout=TIMEOUT_SECONDS).items]

    def volumes_of(self, namespaces: Collection[str]) -> list[str]:
        """Return the names of the volumes that claims of these namespaces have, or had.

        Raises:
            OperationError: The cluster cannot be asked.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            volumes = core.list_persistent_volume(_request_timeout=TIMEOUT_SECONDS).items
        claimed = [volume for volume in volumes if volume.spec.claim_ref]
        return [volume.metadata.name for volume in claimed if volume.spec.claim_ref.namespace in namespaces]

    def has(self, thing: Mapping[str, Any]) -> bool:
        """Say whether an object exists, of which its kind and its name are given.

        Raises:
            OperationError: The cluster cannot be asked.
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
        """Return what a Secret holds, in base64; None where there is none.

        Raises:
            OperationError: The cluster cannot be asked.
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
        """Make a Secret, or replace what it holds.

        Raises:
            OperationError: The cluster cannot be asked, or has no such namespace.
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
        """Return the names of a namespace's Secrets, the newest first.

        Raises:
            OperationError: The cluster cannot be asked.
        """
        core = kubernetes.client.CoreV1Api(self.client)
        with self.errors():
            found = core.list_namespaced_secret(namespace, _request_timeout=TIMEOUT_SECONDS).items
        newest = sorted(found, key=lambda secret: secret.metadata.creation_timestamp, reverse=True)
        return [secret.metadata.name for secret in newest]

    def job(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Job; None where there is none.

        Raises:
            OperationError: The cluster cannot be asked.
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
        """Make a Job; say no where there is one of its name.

        Raises:
            OperationError: The cluster refuses it.
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
        """Delete a Job that may be there; it goes when its pods have gone.

        Raises:
            OperationError: The cluster cannot be asked.
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
        """Turn what the API and its client library raise into a sentence.

        Raises:
            OperationError: The cluster refused a request, or did not answer.
        """
        try:
            yield
        except ApiException as error:
            raise OperationError(
                f"the cluster {self.context} refused ({error.status} {error.reason}): see that you administer it"
            ) from error
        except (HTTPError, OSError) as error:
            raise OperationError(
                f"the cluster {self.context} does not answer: start it, or see that its API is open to you"
            ) from error


def _items(ask: Callable[..., Any], namespace: str) -> Sequence[Mapping[str, Any]]:
    """Return objects as the API writes them."""
    answer = ask(namespace, _preload_content=False, _request_timeout=TIMEOUT_SECONDS)
    return list(json.loads(answer.data)["items"])
