"""Check before a deployment that its images are in the stack's registry."""

from collections.abc import Collection
from pathlib import Path

from infra.errors import OperationError
from infra.images import content
from infra.images.nodes import nodes_of
from infra.images.pinned import RELEASE_FILE, read_release
from infra.release import Release
from infra.settings import ExistingClusterSettings, StackSettings
from ops.console import Echo
from ops.images.ecr import NoRepositoryError
from ops.images.registries import Registry, preview_registry_of, registry_of
from ops.pulumi.aws_deployment import AwsDeployment
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment


def check_images(deployment: AwsDeployment | ExistingClusterDeployment, echo: Echo) -> None:
    """Refuse a deployment whose images are missing.

    Skip the check for images that are loaded onto nodes, and for the first deployment on AWS, which creates the
    registry.

    Raises:
        OperationError: Images are missing, or the registry cannot be read.
    """
    stack, settings = deployment.stack, deployment.settings
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return
    remedy = how_images_come(stack, settings)
    file = deployment.environment.get(RELEASE_FILE)
    release = read_release(Path(file)) if file else None
    try:
        missing = missing_images(registry_of(stack, settings), stack, release)
    except NoRepositoryError:
        echo(f"this deployment creates the image registry first: run {remedy} in another terminal in about a minute")
        return
    if missing:
        source = "the release" if release else "this commit"
        raise OperationError(
            f"the registry of {stack} lacks images of {source} ({', '.join(missing)}): run {remedy}, then rerun this "
            "command"
        )


def check_preview_images(deployment: AwsDeployment | ExistingClusterDeployment) -> None:
    """Refuse a preview environment whose images, built from this working tree, are missing.

    Raises:
        OperationError: Images are missing, or the registry cannot be read.
    """
    stack, settings = deployment.stack, deployment.settings
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return
    if missing := missing_images(preview_registry_of(stack, settings), stack, None):
        raise OperationError(
            f"the registry of the preview environments of {stack} lacks images of this commit ({', '.join(missing)}): "
            f"run `make images STACK={stack} PREVIEW=1`, then rerun this command"
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


def how_images_come(stack: str, settings: StackSettings) -> str:
    """Return the command that delivers images to a stack's registry."""
    if settings.release and settings.release.after:
        return f"`make promote FROM={settings.release.after} TO={stack}`"
    return f"`make images STACK={stack}`"
