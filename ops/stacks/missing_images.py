"""Check before a deployment that its images are in the stack's registry."""

from collections.abc import Collection

from infra.errors import OperationError
from infra.images import content
from infra.images.nodes import nodes_of
from infra.release import Release
from ops.images.registries import Registry
from ops.stacks.platform_stack import PlatformStack


def check_images(stack: PlatformStack, release: Release | None) -> None:
    """Refuse a deployment whose images are missing: those of the release, else those built from this working tree.

    Skip the check for images that are loaded onto nodes.

    Raises:
        OperationError: Images are missing, or the registry cannot be read.
    """
    if not stack.has_registry:
        return
    if missing := missing_images(stack.registry(), stack.name, release):
        source = "the release" if release else "this commit"
        raise OperationError(
            f"the registry of {stack.name} lacks images of {source} ({', '.join(missing)}): run "
            f"{how_images_come(stack)}, then rerun this command"
        )


def check_preview_images(stack: PlatformStack) -> None:
    """Refuse a preview environment whose images, built from this working tree, are missing.

    Raises:
        OperationError: Images are missing, or the registry cannot be read.
    """
    if not stack.has_registry:
        return
    if missing := missing_images(stack.registry(previews=True), stack.name, None):
        raise OperationError(
            f"the registry of the preview environments of {stack.name} lacks images of this commit "
            f"({', '.join(missing)}): run `make images STACK={stack.name} PREVIEW=1`, then rerun this command"
        )


def missing_images(registry: Registry, stack: str, release: Release | None) -> Collection[str]:
    """Return the images that a registry lacks: of the release, else built from this working tree.

    Raises:
        OperationError: The registry cannot be read.
    """
    if release:
        return [name for name, image in release.images.items() if not registry.has_digest(name, image.digest)]
    nodes = nodes_of(stack)
    return [name for name in content.names() if registry.digest(name, content.tag(name, nodes=nodes)) is None]


def how_images_come(stack: PlatformStack) -> str:
    """Return the command that delivers images to a stack's registry."""
    if stack.settings.release and stack.settings.release.after:
        return f"`make promote FROM={stack.settings.release.after} TO={stack.name}`"
    return f"`make images STACK={stack.name}`"
