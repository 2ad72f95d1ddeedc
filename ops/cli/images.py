"""The commands for container images."""

from typing import Annotated

import typer

from infra.errors import OperationError
from infra.existing_cluster.context import checked_context
from infra.images.errors import ImageError
from infra.images.nodes import nodes_of
from infra.settings import ExistingClusterSettings, StackSettings, load
from ops.cli.options import Built, Stack
from ops.console import echo
from ops.images.build import build, full_names
from ops.images.built import read_built
from ops.images.ecr import Ecr
from ops.images.node_images import ClusterNodes
from ops.images.oci import OciRegistry
from ops.images.registries import built_images, copy_unchanged, preview_registry_of, registry_of
from ops.images.signing import sign_built
from ops.previews.rules import check_base

Preview = Annotated[
    bool, typer.Option("--preview", envvar="PREVIEW", help="Build for the stack's preview environments.")
]


def images(stack: Stack, built: Built = None, preview: Preview = False) -> None:
    """Build the images.

    Environment variables for your machine and network:

    BUILDER: docker, podman or buildah; defaults to the first that works.

    IMAGE_BUILD_ARGS: additional arguments for each build, such as `--network host`. If PyTorch's package index is not
    reachable, `--build-arg TORCH_BACKEND=` uses PyTorch from PyPI, with its CUDA libraries.

    BASE_IMAGE_<NAME>: the base of the image <NAME>, for example from a mirror.

    IMAGE_LOAD: the command that loads an image onto the nodes of an existing cluster other than kind, k3d and
    minikube. It gets the image's local name and its name on the nodes. Set variables of the command in it:
    `env NAME=value command`.
    """
    settings, nodes = load(stack), nodes_of(stack)
    check_first(stack, settings)
    if preview:
        check_base(stack, settings)
    destination = destination_of(stack, settings, preview=preview)
    if preview and not isinstance(destination, ClusterNodes):
        copy_unchanged(registry_of(stack, settings), destination, nodes, echo)
    build(destination, nodes, echo, built)


def image_names(stack: Stack) -> None:
    """Print the full name of each image of a stack."""
    for name in full_names(destination_of(stack, load(stack)), nodes_of(stack)).values():
        echo(name)


def sign(stack: Stack, built: Built = None) -> None:
    """Sign the images of this commit in the stack's registry."""
    settings = load(stack)
    check_first(stack, settings)
    if built is None:
        raise ImageError(
            "only images built in this run are signed: set BUILT to the file that `make images BUILT=<file>` wrote"
        )
    nodes, registry = nodes_of(stack), registry_of(stack, settings)
    sign_built(registry, read_built(built), lambda: built_images(registry, nodes), echo)


def check_first(stack: str, settings: StackSettings) -> None:
    """Refuse a stack whose images come from another stack: a rebuild would differ under the same tags.

    Raises:
        OperationError: The stack gets its images by promotion.
    """
    if settings.release and (before := settings.release.after):
        raise OperationError(
            f"{stack} runs the images of {before}, which are not rebuilt: copy them with `make promote FROM={before} "
            f"TO={stack}`"
        )


def destination_of(stack: str, settings: StackSettings, *, preview: bool = False) -> ClusterNodes | Ecr | OciRegistry:
    """Return where the images of a stack, or of its preview environments, are delivered.

    Raises:
        ContextError: There is no current cluster, or the stack's settings do not allow it.
        OperationError: The current credentials belong to another account.
    """
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return ClusterNodes(checked_context(stack, settings.contexts))
    return preview_registry_of(stack, settings) if preview else registry_of(stack, settings)
