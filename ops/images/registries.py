"""A registry, and the copying of a release's images between them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from infra.errors import OperationError
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import Nodes
from infra.release import ReleasedImage
from ops.console import Echo
from ops.images import skopeo


class Registry(Protocol):
    """The registry of a stack.

    Every method raises OperationError if the registry rejects a request or does not answer.
    """

    def repository(self, image: str) -> str:
        """Return the full name of an image, without a tag."""

    def digest(self, image: str, tag: str) -> str | None:
        """Return the digest of an image's tag, or None if the tag does not exist."""

    def has_digest(self, image: str, digest: str) -> bool:
        """Return whether the registry has an image with this digest."""


def built_images(registry: Registry, nodes: Nodes) -> Mapping[str, ReleasedImage]:
    """Return the images of this working tree in a registry, by name.

    Raises:
        OperationError: Images are missing, or the registry cannot be reached.
    """
    tags = {name: content.tag(name, nodes=nodes) for name in content.names()}
    digests = {name: registry.digest(name, tag) for name, tag in tags.items()}
    if missing := [name for name, digest in digests.items() if digest is None]:
        raise OperationError(f"the registry lacks images of this commit ({', '.join(missing)}): run `make images`")
    return {
        name: ReleasedImage(repository=registry.repository(name), tag=tag, digest=str(digests[name]))
        for name, tag in tags.items()
    }


def copy_unchanged(source: Registry, target: Registry, nodes: Nodes, echo: Echo) -> None:
    """Copy the images of this working tree that another registry already has, so that they are not built again.

    Raises:
        OperationError: A registry fails, or a tag in the target refers to another image.
    """
    for name in content.names():
        tag = content.tag(name, nodes=nodes)
        if target.digest(name, tag) is None and (digest := source.digest(name, tag)):
            copy(source, target, ReleasedImage(repository=source.repository(name), tag=tag, digest=digest), name, echo)


def signature_tags(digest: str) -> Sequence[str]:
    """Return the tags under which cosign stores an image's signature and its provenance, next to the image.

    https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
    """
    return [f"{digest.replace(':', '-')}.{kind}" for kind in ("sig", "att")]


def copy(source: Registry, target: Registry, image: ReleasedImage, name: str, echo: Echo) -> ReleasedImage:
    """Copy an image of a release and its signatures, unless the target already has them; return the target's image.

    Raises:
        OperationError: The source does not have the image, its tag refers to another image in the target, or a
            registry fails.
    """
    copied = image.model_copy(update={"repository": target.repository(name)})
    existing = target.digest(name, image.tag)
    if existing not in (None, image.digest):
        raise ImageError(
            f"{copied.repository}:{image.tag} is already {existing}, but the release's image is {image.digest}: tags "
            "are never overwritten, so delete that tag in the registry, then rerun this command"
        )
    if existing is None:
        if not source.has_digest(name, image.digest):
            raise ImageError(
                f"{source.repository(name)} does not have {image.digest}, the release's image {name}: release this or "
                "another commit again"
            )
        echo(f"{name}: copying to {copied.repository}")
        _copy(source, target, name, image.digest, image.tag)
    for tag in signature_tags(image.digest):
        if (signature := source.digest(name, tag)) and target.digest(name, tag) is None:
            _copy(source, target, name, signature, tag)
    return copied


def _copy(source: Registry, target: Registry, name: str, digest: str, tag: str) -> None:
    copied = f"{target.repository(name)}:{tag}"
    skopeo.copy(f"{source.repository(name)}@{digest}", copied)
    if (found := target.digest(name, tag)) != digest:
        raise ImageError(
            f"{copied} is {found} after it was copied as {digest}, so the registry changes images: use another registry"
        )
