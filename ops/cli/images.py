"""The commands for container images."""

from typing import Annotated

import typer

from infra.errors import OperationError
from infra.images.errors import ImageError
from infra.images.nodes import nodes_of
from ops.cli.options import Built, Stack
from ops.console import echo
from ops.images.build import build, full_names
from ops.images.built import read_built
from ops.images.registries import built_images, copy_unchanged
from ops.images.signing import sign_built
from ops.previews.rules import check_base
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.resolve import resolve

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
    resolved, nodes = resolve(stack, echo), nodes_of(stack)
    check_first(resolved)
    if preview:
        check_base(stack, resolved.settings)
        if resolved.has_registry:
            copy_unchanged(resolved.registry(), resolved.registry(previews=True), nodes, echo)
    build(resolved.destination(previews=preview), nodes, echo, built)


def image_names(stack: Stack) -> None:
    """Print the full name of each image of a stack."""
    for name in full_names(resolve(stack, echo).destination(), nodes_of(stack)).values():
        echo(name)


def sign(stack: Stack, built: Built = None) -> None:
    """Sign the images of this commit in the stack's registry."""
    resolved = resolve(stack, echo)
    check_first(resolved)
    if built is None:
        raise ImageError(
            "only images built in this run are signed: set BUILT to the file that `make images BUILT=<file>` wrote"
        )
    nodes, registry = nodes_of(stack), resolved.registry()
    sign_built(registry, read_built(built), lambda: built_images(registry, nodes), echo)


def check_first(stack: PlatformStack) -> None:
    """Refuse a stack whose images come from another stack: a rebuild would differ under the same tags.

    Raises:
        OperationError: The stack gets its images by promotion.
    """
    if stack.settings.release and (before := stack.settings.release.after):
        raise OperationError(
            f"{stack.name} runs the images of {before}, which are not rebuilt: copy them with `make promote "
            f"FROM={before} TO={stack.name}`"
        )
