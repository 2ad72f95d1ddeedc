"""Read and change objects in a Kubernetes cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from infra.errors import OperationError
from ops.kubernetes.diagnosis import Namespace, Object

TIMEOUT_SECONDS = 10
LOG_LINES = 40
# The kubelet returns this text as the log while it cleans up a container.
NO_LOG = "unable to retrieve container logs"
# By default, the client trusts a file in the shared temporary folder, which every user can write first.
NO_DISCOVERY_CACHE = f"{os.devnull}/none"
# A `Warning` header, such as `299 - "policy/v1beta1 PodDisruptionBudget is deprecated in v1.21+"`.
WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')


class NotFoundError(OperationError):
    """The object does not exist."""


class ConflictError(OperationError):
    """The object exists already, or has changed since it was read."""


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


class _DynamicClient(DynamicClient):  # type: ignore[misc]  # the library has no types
    """A client whose requests are limited in time, including those for the kinds of the cluster."""

    def request(self, *arguments: Any, **options: Any) -> Any:
        return super().request(*arguments, _request_timeout=TIMEOUT_SECONDS, **options)


@dataclass(frozen=True)
class Cluster:
    """A cluster and the credentials to access it.

    Objects are dictionaries in the JSON format of the API. All methods raise OperationError if the cluster refuses the
    request or does not respond: NotFoundError and ConflictError if that is the reason.

    Attributes:
        context: The name of the context.
        client: The API client.
        access: The content of the kubeconfig; None for the user's own kubeconfig.
    """

    context: str
    client: Any
    access: Object | None = None

    @classmethod
    def of_context(cls, context: str) -> Cluster:
        """Return the cluster of a context of the user's kubeconfig."""
        return cls(context, client_of(context))

    @classmethod
    def of_access(cls, access: Object) -> Cluster:
        """Return the cluster that a kubeconfig's content describes."""
        return cls(access["current-context"], kubernetes.config.new_client_from_config_dict(dict(access)), access)

    def check(self) -> None:
        """Check that the cluster responds."""
        with self._errors():
            kubernetes.client.VersionApi(self.client).get_code(_request_timeout=TIMEOUT_SECONDS)

    def get(self, kind: str, name: str, namespace: str | None = None, version: str = "v1") -> Object | None:
        """Return an object; None if the object or its kind does not exist."""
        with suppress(NotFoundError):
            return self._call("get", kind, version, name=name, namespace=namespace)
        return None

    def objects(self, kind: str, namespace: str | None = None, labels: str | None = None) -> list[Object]:
        """Return the objects of a kind of the core API, or those with labels such as `component=api-server`."""
        return list(self._call("get", kind, namespace=namespace, label_selector=labels)["items"])

    def names(self, kind: str, namespace: str | None = None, labels: str | None = None) -> list[str]:
        """Return the names of the objects that `objects` returns."""
        return [thing["metadata"]["name"] for thing in self.objects(kind, namespace, labels)]

    def create(self, namespace: str, manifest: Object) -> Object:
        """Create an object, and return it."""
        return self._call("create", manifest["kind"], manifest["apiVersion"], body=manifest, namespace=namespace)

    def replace(self, namespace: str, manifest: Object) -> Object:
        """Replace an object, and return the new one."""
        return self._call("replace", manifest["kind"], manifest["apiVersion"], body=manifest, namespace=namespace)

    def delete(self, kind: str, name: str, namespace: str, options: Object, version: str = "v1") -> None:
        """Delete an object with these DeleteOptions."""
        self._call("delete", kind, version, name=name, namespace=namespace, body=options)

    def has(self, thing: Object) -> bool:
        """Return whether the object with this kind and name exists."""
        metadata = thing["metadata"]
        return self.get(thing["kind"], metadata["name"], metadata.get("namespace"), thing["apiVersion"]) is not None

    def warnings(self, kind: str, version: str) -> list[str]:
        """Return the API's warnings about a kind of object, such as that this version is deprecated."""
        with self._errors():
            path = self._resource(kind, version).path(namespace=None)
            answer = self._dynamic.request("GET", path, limit=1, serialize=False)
        return WARNING.findall(", ".join(answer.headers.getlist("Warning")))

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces."""
        return self.names("Namespace")

    def namespace(self, name: str) -> Namespace:
        """Return the pods, claims and events of a namespace; empty if the namespace does not exist."""
        return Namespace(*(self.objects(kind, name) for kind in ("Pod", "PersistentVolumeClaim", "Event")))

    def volumes_of(self, namespaces: Collection[str]) -> list[str]:
        """Return the names of the volumes that are or were bound to claims of these namespaces."""
        return [
            volume["metadata"]["name"]
            for volume in self.objects("PersistentVolume")
            if volume["spec"].get("claimRef", {}).get("namespace") in namespaces
        ]

    def secrets(self, namespace: str) -> list[str]:
        """Return the names of the Secrets in a namespace, newest first."""
        found = [secret["metadata"] for secret in self.objects("Secret", namespace)]
        return [one["name"] for one in sorted(found, key=itemgetter("creationTimestamp"), reverse=True)]

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

    @cached_property
    def _dynamic(self) -> DynamicClient:
        return _DynamicClient(self.client, NO_DISCOVERY_CACHE)

    def _call(self, verb: str, kind: str, version: str = "v1", **arguments: Any) -> dict[str, Any]:
        with self._errors():
            return dict(getattr(self._resource(kind, version), verb)(**arguments).to_dict())

    def _resource(self, kind: str, version: str) -> Any:
        # Without the prefix, the client asks all API groups for a kind of the core API.
        prefix = "apis" if "/" in version else "api"
        return self._dynamic.resources.get(prefix=prefix, api_version=version, kind=kind)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the API and its client into one sentence."""
        try:
            yield
        except ApiException as error:
            kind = {404: NotFoundError, 409: ConflictError}.get(error.status, OperationError)
            raise kind(
                f"the cluster {self.context} refused the request ({error.status} {error.reason}): check that you have "
                "administrator access"
            ) from error
        except ResourceNotFoundError as error:
            raise NotFoundError(f"the cluster {self.context} lacks a kind of object ({error}): upgrade it") from error
        except (HTTPError, OSError) as error:
            raise OperationError(
                f"the cluster {self.context} does not respond: start it, or check that you can reach its API"
            ) from error
