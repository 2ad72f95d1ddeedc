"""The images of a release in the registries of stacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.errors import OperationError
from infra.release import Release, ReleasedImage
from infra.settings import StackSettings
from ops.console import Echo
from ops.images import registries, signing
from ops.images.registries import Registry


@dataclass(frozen=True)
class Images:
    """What speaks to registries.

    Attributes:
        registry_of: Returns the registry of a stack.
        copy: Copies an image from one registry into another, if that lacks it, and returns it as it is there.
        verify: Raises ImageError where an image bears no signature of whom the expression stands for.
    """

    registry_of: Callable[[str, StackSettings], Registry]
    copy: Callable[[Registry, Registry, ReleasedImage, str, Echo], ReleasedImage]
    verify: Callable[[ReleasedImage, str], None]


def missing(registry: Registry, release: Release) -> str | None:
    """Say which images of a release are not in its stack's registry; None where all are."""
    absent = [image.name for name, image in release.images.items() if not registry.has_digest(name, image.digest)]
    return f"the registry of {release.stack} does not have {', '.join(absent)}" if absent else None


def unsigned(images: Images, release: Release, signed_by: str) -> Mapping[str, str]:
    """Return what is wrong with the signatures of a release, by the images' names."""
    found = {}
    for name, image in release.images.items():
        try:
            images.verify(image, signed_by)
        except OperationError as error:
            found[name] = str(error)
    return found


REGISTRIES = Images(registries.registry_of, registries.copy, signing.verify)
