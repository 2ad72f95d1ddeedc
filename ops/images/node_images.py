"""The nodes of an existing cluster without a registry; images are loaded onto them directly."""

import os
import shlex
import subprocess
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from kubernetes import client
from urllib3.exceptions import HTTPError

from infra.images.content import ON_NODES
from infra.images.errors import ImageError
from ops.images.tools import Tool
from ops.kubernetes.cluster import client_of

# Contexts of clusters that share Docker's image store.
SHARED_WITH_DOCKER = ("docker-desktop", "orbstack", "rancher-desktop", "colima")

TIMEOUT_SECONDS = 10


class ClusterNodes:
    """The nodes of the cluster of a kubeconfig context."""

    def __init__(self, context: str) -> None:
        self._context = context

    def repository(self, image: str) -> str:
        """Return the full name of an image, without a tag."""
        return f"{ON_NODES}/{image}"

    def has(self, name: str) -> bool:
        """Return whether every node has the image with this full name.

        A kubelet reports only its fifty largest images, so an existing image may be loaded again.

        Raises:
            ImageError: The cluster does not answer.
        """
        try:
            nodes = self._core().list_node(_request_timeout=TIMEOUT_SECONDS).items
        except (HTTPError, client.ApiException) as error:
            raise ImageError(
                f"the cluster {self._context} does not answer ({error}): see `kubectl get nodes`"
            ) from None
        return bool(nodes) and all(name in _images(node) for node in nodes)

    def deliver(self, tool: Tool, name: str) -> str | None:
        """Load an image onto the nodes with the command in IMAGE_LOAD, else with the command for the kind of cluster.

        IMAGE_LOAD gets two more arguments: the image's name in the tool's store, and its name on the nodes.

        Raises:
            ImageError: The command is unknown or fails.
        """
        chosen = os.environ.get("IMAGE_LOAD")
        if chosen:
            _run([*shlex.split(chosen), name, name])
        elif not (tool.name == "docker" and self._context in SHARED_WITH_DOCKER):
            with TemporaryDirectory(prefix="image-") as folder:
                archive = Path(folder, "image.tar")
                command = load_command(self._context, archive)
                tool.save(name, archive)
                _run(command)
        return None

    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(client_of(self._context))


def load_command(context: str, archive: Path) -> list[str]:
    """Return the command that loads an archive onto a cluster's nodes, based on the name of its context.

    Raises:
        ImageError: The kind of cluster is unknown.
    """
    kind, _, cluster = context.partition("-")
    match kind:
        case "kind":
            return ["kind", "load", "image-archive", str(archive), "--name", cluster]
        case "k3d":
            return ["k3d", "image", "import", str(archive), "--cluster", cluster]
        case "minikube":
            return ["minikube", "image", "load", str(archive), "--profile", context]
    raise ImageError(
        f"unknown kind of cluster {context}: set IMAGE_LOAD to a command that loads an image onto its nodes; it gets "
        "the image's local name and the name on the nodes"
    )


def _images(node: client.V1Node) -> Collection[str]:
    return {name for image in node.status.images or () for name in image.names or ()}


def _run(command: list[str]) -> None:
    try:
        status = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise ImageError(f"{command[0]}, which loads images onto the nodes, is not installed: install it") from None
    if status != 0:
        raise ImageError(f"`{shlex.join(command)}` failed: see the output above, and fix the cause")
