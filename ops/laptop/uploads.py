"""Upload files of the user to the data bucket."""

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infra.errors import OperationError
from ops.paths import printable

UPLOADS = 8
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
KEY_BYTES = 1024
HIDDEN_FOLDER = ".versions"  # where SeaweedFS stores the versions of an object
NAMES_IN_WARNING = 3
UNREADABLE = "it is not a readable file"


@dataclass(frozen=True)
class Upload:
    """One file to upload.

    Attributes:
        name: The key below the prefix.
        read: Returns the file's bytes.
    """

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Destination:
    """Where files are stored.

    Attributes:
        bucket: The bucket.
        prefix: The folder in the bucket, which ends in "/".
        quarantine: The folder to which a run moves unreadable files, under their whole keys.
    """

    bucket: str
    prefix: str
    quarantine: str


def of_file(file: Path, name: str) -> Upload:
    """Return the upload of a file on this machine."""
    return Upload(name, partial(_read, file))


def in_folders(path: Path, folders: Iterable[Path], to: Destination) -> list[Upload]:
    """Return the files in folders of `path`, by their paths below `path`.

    Hidden files and folders are skipped. Files that cannot be read or have no valid S3 key are skipped with a warning.
    """
    found: list[Upload] = []
    left_out: dict[str, list[Path]] = {}

    def leave_out(error: OSError) -> None:
        left_out.setdefault(UNREADABLE, []).append(Path(os.fsdecode(error.filename)).relative_to(path))

    for folder in folders:
        for parent, names_of_folders, names in os.walk(folder, onerror=leave_out):
            names_of_folders[:] = sorted(name for name in names_of_folders if not name.startswith("."))
            for file in sorted(Path(parent, name) for name in names if not name.startswith(".")):
                name = file.relative_to(path)
                reason = _invalid_key_reason(f"{to.quarantine}{to.prefix}{name.as_posix()}") or _unreadable_reason(file)
                if reason:
                    left_out.setdefault(reason, []).append(name)
                else:
                    found.append(of_file(file, name.as_posix()))
    _warn(left_out)
    return found


def _warn(left_out: Mapping[str, list[Path]]) -> None:
    for reason, names in left_out.items():
        shown = ", ".join(printable(name) for name in names[:NAMES_IN_WARNING])
        more = f" and {len(names) - NAMES_IN_WARNING} more" if len(names) > NAMES_IN_WARNING else ""
        sys.stderr.write(f"warning: skipped because {reason}: {shown}{more}\n")


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
    if len(key.encode()) > KEY_BYTES:
        return f"the path is too long (S3 allows {KEY_BYTES} bytes, including the prefix)"
    return None


def _unreadable_reason(file: Path) -> str | None:
    return None if file.is_file() and os.access(file, os.R_OK) else UNREADABLE


def digest_of(path: Path) -> str:
    """Return a digest that distinguishes folders of the same name."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]


def folder_name(path: Path) -> str:
    """Return a name for a folder's files in the bucket: its name and a digest."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).strip("-.") or "folder"
    return f"{name}-{digest_of(path)}"


def store(s3: Any, to: Destination, files: Iterable[Upload]) -> int:
    """Make the prefix contain exactly `files`; return how many were uploaded.

    Unchanged files are not uploaded again, even if a run has moved them to quarantine. If a file in quarantine changed
    or was removed, its copy there is deleted.
    """
    present = _etags(s3, to.bucket, to.prefix)
    quarantined = _etags(s3, to.bucket, f"{to.quarantine}{to.prefix}")
    digests: dict[str, str] = {}

    def upload(file: Upload) -> bool:
        body = file.read()
        digest = digests[file.name] = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if digest in (present.get(file.name), quarantined.get(file.name)):
            return False
        s3.put_object(Bucket=to.bucket, Key=f"{to.prefix}{file.name}", Body=body)
        return True

    with ThreadPoolExecutor(UPLOADS) as pool:
        uploaded = sum(pool.map(upload, files))
    for name in present.keys() - digests.keys():
        s3.delete_object(Bucket=to.bucket, Key=f"{to.prefix}{name}")
    for name, digest in quarantined.items():
        if digests.get(name) != digest:
            s3.delete_object(Bucket=to.bucket, Key=f"{to.quarantine}{to.prefix}{name}")
    return uploaded


def _etags(s3: Any, bucket: str, prefix: str) -> dict[str, str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        entry["Key"].removeprefix(prefix): entry["ETag"].strip('"')
        for page in pages
        for entry in page.get("Contents", [])
    }
