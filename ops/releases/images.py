"""The images of a release in the stacks' registries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.errors import OperationError
from infra.release import Release, ReleasedImage
from infra.settings import StackSettings
from ops.console import Echo, echo
from ops.images import registries, signing
from ops.images.registries import Registry
from ops.stacks.resolve import stack_with


@dataclass(frozen=True)
class Images:
    """Operations on registries.

    Attributes:
        registry_of: Returns the registry of a stack.
        copy: Copies an image from one registry to another, if it is missing there, and returns the copy.
        verify: Raises ImageError if an image has no signature by an identity that matches the expression.
    """

    registry_of: Callable[[str, StackSettings], Registry]
    copy: Callable[[Registry, Registry, ReleasedImage, str, Echo], ReleasedImage]
    verify: Callable[[ReleasedImage, str], None]


def missing(registry: Registry, release: Release) -> str | None:
    """Return which images of a release its stack's registry lacks; None if it has all."""
    absent = [image.name for name, image in release.images.items() if not registry.has_digest(name, image.digest)]
    return f"the registry of {release.stack} lacks {', '.join(absent)}" if absent else None


def unsigned(images: Images, release: Release, signed_by: str) -> Mapping[str, str]:
    """Return the signature errors of a release, by image name."""
    found = {}
    for name, image in release.images.items():
        try:
            images.verify(image, signed_by)
        except OperationError as error:
            found[name] = str(error)
    return found


def registry_of(name: str, settings: StackSettings) -> Registry:
    """Return the registry of a stack.

    Raises:
        OperationError: The stack has no registry, or the current credentials belong to another account.
    """
    return stack_with(name, settings, echo).registry()


REGISTRIES = Images(registry_of, registries.copy, signing.verify)
