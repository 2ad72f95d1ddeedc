"""Upload images to the data bucket: scikit-learn's handwritten digits, or a folder that the user names."""

import hashlib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infra.errors import OperationError
from ops.paths import printable

DIGITS_PREFIX = "images/digits/"
QUARANTINE = "quarantine/"
UPLOADS = 8
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
KEY_BYTES = 1024
HIDDEN_FOLDER = ".versions"  # where SeaweedFS stores the versions of an object
NAMES_IN_WARNING = 3
UNREADABLE = "it is not a readable file"


@dataclass(frozen=True)
class Image:
    """One image to upload.

    Attributes:
        name: The key below the prefix: `<class>/<file name>`.
        read: Returns the image's bytes.
    """

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
        # Each value of the data set counts the inked pixels, 0 to 16, of a 4x4 block of the scan.
        Picture.fromarray((pixels * 255 / 16).round().astype(numpy.uint8)).save(buffer, "PNG")
        yield Image(f"{label}/{index:04d}.png", buffer.getvalue)


def folder(path: Path) -> Iterator[Image]:
    """Yield the files in the class folders of `path`.

    Hidden files and folders are skipped. Files that cannot be read or have no valid S3 key are skipped with a warning.

    Raises:
        OperationError: `path` is not a readable folder, or fewer than two of its subfolders contain files.
    """
    classes, left_out = _files(path)
    for reason, names in left_out.items():
        shown = ", ".join(printable(name) for name in names[:NAMES_IN_WARNING])
        more = f" and {len(names) - NAMES_IN_WARNING} more" if len(names) > NAMES_IN_WARNING else ""
        sys.stderr.write(f"warning: skipped because {reason}: {shown}{more}\n")
    if len(classes) < 2:
        raise OperationError(
            f"IMAGES={printable(path)} has {len(classes)} subfolder(s) with files, and at least 2 are required: "
            "put the images of each class into a subfolder named after the class"
        )
    for found in classes.values():
        for file in found:
            yield Image(file.relative_to(path).as_posix(), partial(_read, file))


def _files(path: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return the files to be stored, by class, and what is left out, by reason."""
    classes: dict[str, list[Path]] = {}
    left_out: dict[str, list[Path]] = {}

    def leave_out(error: OSError) -> None:
        left_out.setdefault(UNREADABLE, []).append(Path(os.fsdecode(error.filename)).relative_to(path))

    try:
        children = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise OperationError(
            f"IMAGES={printable(path)} is not a readable folder ({error.strerror}): set a folder that has one "
            "subfolder of images per class"
        ) from error
    prefix = prefix_of(path)
    for child in children:
        for parent, folders, names in os.walk(child, onerror=leave_out):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in sorted(Path(parent, name) for name in names if not name.startswith(".")):
                name = file.relative_to(path)
                reason = _invalid_key_reason(f"{prefix}{name.as_posix()}") or _unreadable_reason(file)
                if reason:
                    left_out.setdefault(reason, []).append(name)
                else:
                    classes.setdefault(child.name, []).append(file)
    return classes, left_out


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise OperationError(f"{printable(file)} cannot be read ({error.strerror}): rerun this command") from error


def _invalid_key_reason(key: str) -> str | None:
    """Return why the S3 server cannot store an object under this key, or None."""
    categories = {unicodedata.category(character) for character in key}
    if "Cs" in categories:  # Python decodes bytes that are not UTF-8 as surrogates
        return "the name is not UTF-8"
    if "Cc" in categories:
        return "the name contains control characters"
    if "\\" in key:
        return "the name contains a backslash (SeaweedFS stores it as a slash)"
    if any(folder.endswith(HIDDEN_FOLDER) for folder in key.split("/")[:-1]):
        return f"a folder's name ends in {HIDDEN_FOLDER} (SeaweedFS does not list such folders)"
    if len(f"{QUARANTINE}{key}".encode()) > KEY_BYTES:
        return f"the path is too long (S3 allows {KEY_BYTES} bytes, including the prefix)"
    return None


def _unreadable_reason(file: Path) -> str | None:
    return None if file.is_file() and os.access(file, os.R_OK) else UNREADABLE


def prefix_of(path: Path) -> str:
    """Return the prefix for a folder's images: its name and a digest that distinguishes folders of the same name."""
    resolved = path.resolve()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", resolved.name).strip("-.") or "folder"
    return f"images/{name}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}/"


def store(s3: Any, bucket: str, prefix: str, images: Iterator[Image]) -> int:
    """Make the prefix contain exactly `images`; return how many were uploaded.

    Unchanged images are not uploaded again, even if a run has moved them to quarantine. If an image in quarantine
    changed or was removed, its copy there is deleted.
    """
    present = _etags(s3, bucket, prefix)
    quarantined = _etags(s3, bucket, f"{QUARANTINE}{prefix}")
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
            s3.delete_object(Bucket=bucket, Key=f"{QUARANTINE}{prefix}{name}")
    return uploaded


def _etags(s3: Any, bucket: str, prefix: str) -> dict[str, str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        entry["Key"].removeprefix(prefix): entry["ETag"].strip('"')
        for page in pages
        for entry in page.get("Contents", [])
    }
