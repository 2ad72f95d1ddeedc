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
    bool, typer.Option("--preview", envvar="PREVIEW", help="Build them for the preview environments of the stack.")
]


def images(stack: Stack, built: Built = None, preview: Preview = False) -> None:
    """Build the images.

    These variables adapt it to a machine and its network:

    BUILDER: docker, podman or buildah; by default the first of them that works.

    IMAGE_BUILD_ARGS: further arguments of each build, such as `--network host`. Where PyTorch's own package index is
    out of reach, `--build-arg TORCH_BACKEND=` takes PyPI's build of PyTorch, with its CUDA libraries.

    BASE_IMAGE_<NAME>: another base of the image <NAME>, such as a mirror's.

    IMAGE_LOAD: the command that loads an image onto the nodes of an existing cluster that is neither kind, k3d nor
    minikube. It gets the image's local name and the name on the nodes. Put a variable that the command needs into it:
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
    check_first(stack, load(stack))
    if built is None:
        raise ImageError(
            "only the images that this run has built are signed: name the file that `make images BUILT=<file>` wrote"
        )
    nodes, registry = nodes_of(stack), registry_of(stack, load(stack))
    sign_built(registry, read_built(built), lambda: built_images(registry, nodes), echo)


def check_first(stack: str, settings: StackSettings) -> None:
    """Refuse a stack whose images come from another one: built again they would be others under the same tags.

    Raises:
        OperationError: It is one.
    """
    if settings.release and (before := settings.release.after):
        raise OperationError(
            f"{stack} runs the images of {before}, and they are not built again: `make promote FROM={before} "
            f"TO={stack}` brings them there"
        )


def destination_of(stack: str, settings: StackSettings, *, preview: bool = False) -> ClusterNodes | Ecr | OciRegistry:
    """Return where a stack's cluster finds its images, or those of the preview environments in it.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        OperationError: The account of the credentials at hand is not the stack's.
    """
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return ClusterNodes(checked_context(stack, settings.contexts))
    return preview_registry_of(stack, settings) if preview else registry_of(stack, settings)
