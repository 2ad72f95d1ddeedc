"""Bring images into the data bucket: the handwritten digits that scikit-learn ships, or a folder of the user's."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import OperationError

DIGITS_PREFIX = "images/digits/"
UPLOADS = 8


@dataclass(frozen=True)
class Image:
    """One image to be stored: its key below the prefix (`<class>/<file name>`) and how to read its bytes."""

    name: str
    read: Callable[[], bytes]


def digits() -> Iterator[Image]:
    """Yield scikit-learn's 1,797 digits as 8x8 PNG files in the folders 0 to 9."""
    import numpy
    from PIL import Image as Picture
    from sklearn.datasets import load_digits

    data = load_digits()
    for index, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        buffer = io.BytesIO()
        # The data set counts 0 to 16 strokes in each 4x4 block of the scan.
        Picture.fromarray((pixels * 255 / 16).round().astype(numpy.uint8)).save(buffer, "PNG")
        yield Image(f"{label}/{index:04d}.png", buffer.getvalue)


def folder(path: Path) -> Iterator[Image]:
    """Yield the files in the class folders of `path`; hidden files and folders are left out.

    Raises:
        OperationError: `path` is no folder, or fewer than two folders in it have files.
    """
    if not path.is_dir():
        raise OperationError(
            f"IMAGES={path} is not a folder: name a folder that has one sub-folder of images for each class"
        )
    files = {
        child.name: [
            file
            for file in sorted(child.rglob("*"))
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        for child in sorted(path.iterdir())
        if child.is_dir()
    }
    classes = {name: found for name, found in files.items() if found}
    if len(classes) < 2:
        raise OperationError(
            f"IMAGES={path} has {len(classes)} sub-folder(s) with files in them and at least 2 are needed: "
            "put the images of each class into a sub-folder that has the class' name"
        )
    for found in classes.values():
        for file in found:
            yield Image(file.relative_to(path).as_posix(), file.read_bytes)


def prefix_of(path: Path) -> str:
    """Return the prefix for a folder's images: its name, and a digest that tells folders of one name apart."""
    resolved = path.resolve()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", resolved.name).strip("-.") or "folder"
    return f"images/{name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}/"


def store(s3: Any, bucket: str, prefix: str, images: Iterator[Image]) -> int:
    """Make the prefix hold exactly `images`; return how many had to be uploaded.

    What is there already is left alone, and so is a file that a run has put into quarantine unchanged. The copy in
    quarantine of a file that changed or was removed is deleted.
    """
    present = _etags(s3, bucket, prefix)
    quarantined = _etags(s3, bucket, f"quarantine/{prefix}")
    digests: dict[str, str] = {}

    def upload(image: Image) -> bool:
        body = image.read()
        digest = digests[image.name] = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if digest in (present.get(image.name), quarantined.get(image.name)):
            return False
        s3.put_object(Bucket=bucket, Key=f"{prefix}{image.name}", Body=body)
        return True

    with ThreadPoolExecutor(UPLOADS) as pool:
        uploaded = sum(pool.map(upload, images))
    for name in present.keys() - digests.keys():
        s3.delete_object(Bucket=bucket, Key=f"{prefix}{name}")
    for name, digest in quarantined.items():
        if digests.get(name) != digest:
            s3.delete_object(Bucket=bucket, Key=f"quarantine/{prefix}{name}")
    return uploaded


def _etags(s3: Any, bucket: str, prefix: str) -> dict[str, str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        entry["Key"].removeprefix(prefix): entry["ETag"].strip('"')
        for page in pages
        for entry in page.get("Contents", [])
    }
