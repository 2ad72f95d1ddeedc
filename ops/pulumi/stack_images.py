"""See, before a deployment begins, that the images that it starts are in the stack's registry."""

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
    """Refuse a deployment whose pods would find no image.

    The first one on AWS makes the registry itself, and images that are loaded onto nodes are looked for by their pods.

    Raises:
        OperationError: Images are missing, or the registry cannot be asked.
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
        echo(f"this deployment makes the image registry first: run {remedy} beside it in a minute")
        return
    if missing:
        whose = "of the release's" if release else "of this commit's"
        raise OperationError(
            f"the registry of {stack} has no images {whose} {', '.join(missing)}: run {remedy}, then the same command "
            "again"
        )


def check_preview_images(deployment: AwsDeployment | ExistingClusterDeployment) -> None:
    """Refuse a preview environment beside a stack whose pods would find no image of the sources that lie here.

    Raises:
        OperationError: Images are missing, or the registry cannot be asked.
    """
    stack, settings = deployment.stack, deployment.settings
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return
    if missing := missing_images(preview_registry_of(stack, settings), stack, None):
        raise OperationError(
            f"the registry of the preview environments of {stack} has no images of this commit's {', '.join(missing)}: "
            f"run `make images STACK={stack} PREVIEW=1`, then the same command again"
        )


def missing_images(registry: Registry, stack: str, release: Release | None) -> Collection[str]:
    """Return the images that are not in a registry: those of a release, else those of the sources that lie here.

    Raises:
        OperationError: The registry cannot be asked.
    """
    if release:
        return [name for name, image in release.images.items() if not registry.has_digest(name, image.digest)]
    nodes = nodes_of(stack)
    return [name for name in content.names() if registry.digest(name, content.tag(name, nodes=nodes)) is None]


def how_images_come(stack: str, settings: StackSettings) -> str:
    """Return the command that brings images into a stack's registry."""
    if settings.release and settings.release.after:
        return f"`make promote FROM={settings.release.after} TO={stack}`"
    return f"`make images STACK={stack}`"
