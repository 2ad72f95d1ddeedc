"""The registries of stacks, and the way of a release's images from one to the next."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from infra.errors import OperationError
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import Nodes
from infra.release import ReleasedImage
from infra.settings import ExistingClusterSettings, StackSettings
from ops.aws.account import account_of
from ops.console import Echo
from ops.images import skopeo
from ops.images.ecr import Ecr
from ops.images.oci import OciRegistry


class Registry(Protocol):
    """The registry of a stack.

    Every method raises OperationError when the registry refuses, or does not answer.
    """

    def repository(self, image: str) -> str:
        """Return an image's full name, without a tag."""

    def digest(self, image: str, tag: str) -> str | None:
        """Return the digest of an image's tag, None where it is not there."""

    def has_digest(self, image: str, digest: str) -> bool:
        """Say whether an image is there with this digest."""


def registry_of(stack: str, settings: StackSettings) -> Ecr | OciRegistry:
    """Return a stack's registry.

    Raises:
        OperationError: It has none, or the account of the credentials at hand is not the stack's.
    """
    if not isinstance(settings, ExistingClusterSettings):
        return Ecr(stack, account_of(stack, settings))
    if settings.registry is None:
        raise OperationError(
            f"{stack} has no registry, its images are loaded onto its nodes: name one as airflow:registry in "
            f"Pulumi.{stack}.yaml"
        )
    return OciRegistry(settings.registry)


def preview_registry_of(stack: str, settings: StackSettings) -> Ecr | OciRegistry:
    """Return the registry of the preview environments beside a stack, which is apart from the stack's own.

    Raises:
        OperationError: There is none, or the account of the credentials at hand is not the stack's.
    """
    if not isinstance(settings, ExistingClusterSettings):
        return Ecr(stack, account_of(stack, settings), previews=True)
    registry_of(stack, settings)  # raises where there is none
    return OciRegistry(f"{settings.registry}/{content.PREVIEWS}")


def built_images(registry: Registry, nodes: Nodes) -> Mapping[str, ReleasedImage]:
    """Return the images of the sources that lie here, by their names, as a registry has them.

    Raises:
        OperationError: Some are not there, or the registry cannot be asked.
    """
    tags = {name: content.tag(name, nodes=nodes) for name in content.names()}
    digests = {name: registry.digest(name, tag) for name, tag in tags.items()}
    if missing := [name for name, digest in digests.items() if digest is None]:
        raise OperationError(f"the registry has no images of this commit's {', '.join(missing)}: run `make images`")
    return {
        name: ReleasedImage(repository=registry.repository(name), tag=tag, digest=str(digests[name]))
        for name, tag in tags.items()
    }


def copy_unchanged(source: Registry, target: Registry, nodes: Nodes, echo: Echo) -> None:
    """Copy those images of the sources that lie here which another registry has already, so that none is built again.

    Raises:
        OperationError: A registry fails, or a tag is another image in the target.
    """
    for name in content.names():
        tag = content.tag(name, nodes=nodes)
        if target.digest(name, tag) is None and (digest := source.digest(name, tag)):
            copy(source, target, ReleasedImage(repository=source.repository(name), tag=tag, digest=digest), name, echo)


def signature_tags(digest: str) -> Sequence[str]:
    """Return the tags under which cosign keeps an image's signature and its provenance, beside the image.

    https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
    """
    return [f"{digest.replace(':', '-')}.{kind}" for kind in ("sig", "att")]


def copy(source: Registry, target: Registry, image: ReleasedImage, name: str, echo: Echo) -> ReleasedImage:
    """Copy an image of a release, with its signatures, and return it as the target has it; what is there stays.

    Raises:
        OperationError: It is not in the source, its tag is another image in the target, or a registry fails.
    """
    copied = image.model_copy(update={"repository": target.repository(name)})
    there = target.digest(name, image.tag)
    if there not in (None, image.digest):
        raise ImageError(
            f"{copied.repository}:{image.tag} is {there} already, and the release's is {image.digest}: a tag stays "
            "what it is, so delete that one in the registry, then run the same command again"
        )
    if there is None:
        if not source.has_digest(name, image.digest):
            raise ImageError(
                f"{source.repository(name)} has no {image.digest}, the release's image {name}: release the commit "
                "again, or another one"
            )
        echo(f"{name}: on its way to {copied.repository}")
        _copy(source, target, name, image.digest, image.tag)
    for tag in signature_tags(image.digest):
        if (signature := source.digest(name, tag)) and target.digest(name, tag) is None:
            _copy(source, target, name, signature, tag)
    return copied


def _copy(source: Registry, target: Registry, name: str, digest: str, tag: str) -> None:
    copied = f"{target.repository(name)}:{tag}"
    skopeo.copy(f"{source.repository(name)}@{digest}", copied)
    if (found := target.digest(name, tag)) != digest:
        raise ImageError(f"{copied} is {found} after it was copied as {digest}: the registry changes what it stores")
