"""A server with the part of the Kubernetes API that `ops.kubernetes.cluster` uses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from ops.kubernetes.cluster import Cluster
from ops.loopback import LOOPBACK

# The kinds by their names in addresses, for each group.
KINDS = {
    "/api/v1": {
        "configmaps": "ConfigMap",
        "namespaces": "Namespace",
        "persistentvolumes": "PersistentVolume",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
    },
    "/apis/batch/v1": {"jobs": "Job"},
}
CLUSTER_WIDE = ("Namespace", "PersistentVolume")
GROUP_VERSION = {"groupVersion": "batch/v1", "version": "v1"}
GROUPS = [{"name": "batch", "versions": [GROUP_VERSION], "preferredVersion": GROUP_VERSION}]
# A program that prints the token, as `aws eks get-token` does.
TOKEN = "of the test"
CREDENTIAL = {
    "apiVersion": "client.authentication.k8s.io/v1beta1",
    "kind": "ExecCredential",
    "status": {"token": TOKEN},
}
PROGRAM = {"apiVersion": CREDENTIAL["apiVersion"], "command": "echo", "args": [json.dumps(CREDENTIAL)]}
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}


class RefusedError(Exception):
    """The request is answered with a status."""


class KubernetesApi(ThreadingHTTPServer):
    """The objects by their addresses, with resource versions and conflicts.

    Attributes:
        objects: The objects.
        requests: The methods and addresses of all requests.
        created_at: The creation time of the next objects.
        refuses: The method that is answered with 403.
        cluster: Access to the server.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.created_at = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        self.refuses = ""
        self._version = 0
        self.cluster = Cluster.of_access(
            {
                "current-context": "kind-test",
                "contexts": [{"name": "kind-test", "context": {"cluster": "kind-test", "user": "test"}}],
                "clusters": [{"name": "kind-test", "cluster": {"server": f"http://{LOOPBACK}:{self.server_port}"}}],
                "users": [{"name": "test", "user": {"exec": PROGRAM}}],
            }
        )

    def answer(self, method: str, path: str, selector: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.requests.append((method, path))
        if method == self.refuses:
            raise RefusedError(403)
        if method == "GET":
            return self._discovery(path) or self._found(path, selector)
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise RefusedError(409)
            return self._put(path, body, f"{self.created_at:%Y-%m-%dT%H:%M:%SZ}")
        present = self._present(path)["metadata"]
        wanted = (body["metadata"] if method == "PUT" else body.get("preconditions", {})).get("resourceVersion")
        if wanted not in (None, present["resourceVersion"]):
            raise RefusedError(409)
        return self._put(path, body, present["creationTimestamp"]) if method == "PUT" else self.objects.pop(path)

    def _discovery(self, path: str) -> Mapping[str, Any] | None:
        if path.rstrip("/") == "/version":
            return {"gitVersion": "v1.34.0"}
        if path == "/apis":
            return {"kind": "APIGroupList", "groups": GROUPS}
        if path in KINDS:
            resources = [
                {"name": name, "kind": kind, "namespaced": kind not in CLUSTER_WIDE, "verbs": []}
                for name, kind in KINDS[path].items()
            ]
            return {"kind": "APIResourceList", "resources": resources}
        return None

    def _found(self, path: str, selector: str) -> Mapping[str, Any]:
        kind = next((names[name] for names in KINDS.values() for name in names if path.endswith(f"/{name}")), None)
        if kind is None:
            return self._present(path)
        labels = dict(pair.split("=") for pair in selector.split(",") if pair)
        items = [
            {key: value for key, value in thing.items() if key not in ("apiVersion", "kind")}
            for address, thing in self.objects.items()
            if address.rpartition("/")[0] == path and labels.items() <= thing["metadata"].get("labels", {}).items()
        ]
        return {"apiVersion": "v1", "kind": f"{kind}List", "items": items}

    def _present(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise RefusedError(404)
        return self.objects[path]

    def _put(self, path: str, body: Mapping[str, Any], created_at: str) -> Mapping[str, Any]:
        self._version += 1
        metadata = {**body["metadata"], "creationTimestamp": created_at, "resourceVersion": str(self._version)}
        # The API leaves out what is empty.
        self.objects[path] = {**body, "metadata": {key: value for key, value in metadata.items() if value}}
        return self.objects[path]


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        address = urlsplit(self.path)
        selector = parse_qs(address.query).get("labelSelector", [""])[0]
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                raise RefusedError(401)
            answer = cast(KubernetesApi, self.server).answer(
                self.command, address.path, selector, json.loads(content or b"{}")
            )
        except RefusedError as refused:
            [status] = refused.args
            self.send_response(status, REASONS[status])
            answer = {"kind": "Status", "reason": REASONS[status]}
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def kubernetes_api() -> Iterator[KubernetesApi]:
    """Run the server."""
    with KubernetesApi() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
