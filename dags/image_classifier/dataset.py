"""Datasets: which images belong to one, and which of them are held out."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from ml_common.errors import PermanentError

HELD_OUT_FRACTION = 0.2
MINIMUM_IMAGES_PER_CLASS = 5
SHOWN_KEYS = 3


@dataclass(frozen=True)
class LabelledImage:
    """An image's key in the data bucket, the SHA-256 of its bytes in hex, and its class."""

    key: str
    sha256: str
    label: str


def label_of(key: str, prefix: str) -> str | None:
    """Return the first folder under `prefix`, which ends in "/", or None for an object outside any folder."""
    folder, slash, _ = key.removeprefix(prefix).partition("/")
    return folder if folder and slash else None


def require_class_folders(keys: Iterable[str], prefix: str, where: str) -> None:
    """Raise PermanentError if there are no objects, or some are outside class folders."""
    keys = list(keys)
    if not keys:
        raise PermanentError(
            f"There are no images under {where}: upload them as <prefix><class>/<file> or set the Param `prefix`."
        )
    outside = [key for key in keys if label_of(key, prefix) is None]
    if outside:
        raise PermanentError(
            f"{len(outside)} objects under {where} are not in a class folder "
            f"(such as {', '.join(outside[:SHOWN_KEYS])}): move each to <prefix><class>/<file>."
        )


def require_enough_images(images: Sequence[LabelledImage], labels: Iterable[str]) -> None:
    """Raise PermanentError for fewer than two classes, or for a class of `labels` with too few different images."""
    contents: dict[str, set[str]] = {label: set() for label in sorted(labels)}
    if len(contents) < 2:
        raise PermanentError(
            f"There is only one class, {', '.join(contents)}: a classifier needs at least two class folders."
        )
    for image in images:
        contents[image.label].add(image.sha256)
    short = [f"{label} ({len(found)})" for label, found in contents.items() if len(found) < MINIMUM_IMAGES_PER_CLASS]
    if short:
        raise PermanentError(
            f"Too few different readable images in {', '.join(short)}: "
            f"each class needs at least {MINIMUM_IMAGES_PER_CLASS}; add images or remove the class folder."
        )


def fingerprint(images: Iterable[LabelledImage]) -> str:
    """Return 16 hex digits that change when any image, its key or its class changes."""
    rows = sorted((image.key, image.sha256, image.label) for image in images)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def manifest_of(images: Sequence[LabelledImage]) -> dict[str, object]:
    """Return the dataset as JSON: its fingerprint, the number of images in each class, and every image."""
    ordered = sorted(images, key=lambda image: image.key)
    return {
        "fingerprint": fingerprint(images),
        "classes": dict(Counter(image.label for image in images)),
        "images": [asdict(image) for image in ordered],
    }


def split(images: Sequence[LabelledImage]) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Split a dataset into training and held-out images.

    The hash of an image's content decides, so that an image stays where it is when others are added or removed, and all
    copies of it stay together. Of a class without held-out images, the image with the smallest hash is held out; of a
    class without training images, the one with the largest hash is used for training.

    Returns:
        Training images, held-out images.
    """
    contents = defaultdict(set)
    for image in images:
        contents[image.label].add(image.sha256)
    held_out = {(label, sha256) for label, hashes in contents.items() for sha256 in _held_out(hashes)}
    training = [image for image in images if (image.label, image.sha256) not in held_out]
    return training, [image for image in images if (image.label, image.sha256) in held_out]


def _held_out(hashes: set[str]) -> set[str]:
    below = {sha256 for sha256 in hashes if int(sha256[:8], 16) / 2**32 < HELD_OUT_FRACTION} or {min(hashes)}
    return below - {max(hashes)} if below == hashes else below
