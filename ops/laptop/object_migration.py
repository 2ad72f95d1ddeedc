"""Migrate the objects of a home whose S3 server was the emulator ministack (1.5.33) to SeaweedFS.

ministack stores an object at `<account>/<bucket>/<key>`, or under an encoded name if the file system does not support
the key. A sidecar file with the suffix `.meta.json` holds the object's key and headers, or marks the object as deleted.
Old versions, in `.versions`, are not migrated.

The old files are deleted after all objects are in the new server. An interrupted migration resumes where it stopped.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from infra.errors import OperationError
from ops.console import Echo
from ops.laptop.home import Home

ACCOUNT = re.compile(r"\d{12}")
ENCODED = ".ministack-keys"
SIDECAR = ".meta.json"
UNFINISHED = ".tmp"
DONE_PREFIX = "moved-"
OLD_VERSIONS = ".versions"
HEADERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-language": "ContentLanguage",
}
UPLOADS = 8
REPORT_SECONDS = 5.0
FREE_BYTES = 2 * 2**30  # the new server rejects writes when less than half of this is free
# In a single part, so that the ETag remains the MD5 digest of the content.
IN_ONE_PART = TransferConfig(multipart_threshold=5 * 2**30, use_threads=False)


@dataclass(frozen=True)
class OldObject:
    """An object in the old folder.

    Attributes:
        bucket: Its bucket.
        key: Its key.
        file: The file with its content.
        settings: Its headers and metadata, as `ExtraArgs` of boto3's `upload_file`.
    """

    bucket: str
    key: str
    file: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The key under which SeaweedFS lists the object: it normalizes `a//b` and `a\\b` to `a/b`."""
        return re.sub(r"[/\\]+", "/", self.key).removeprefix("/")


def pending(home: Home) -> bool:
    """Return whether the home has objects that are not migrated yet."""
    return any(_accounts(home))


def move(home: Home, s3: Any, echo: Echo) -> None:
    """Migrate all objects, create missing buckets, and delete the old files.

    Raises:
        OperationError: The disk has too little free space, or the new server rejects an object.
    """
    _delete_leftovers(home)
    for account in list(_accounts(home)):
        found = list(objects(account))
        _move(home, found, s3, echo)
        # Rename the folder first, so that a partly deleted folder is not migrated again.
        account.rename(home.objects / f"{DONE_PREFIX}{account.name}")
        echo(f"migrated all {len(found)} objects to the new S3 server; deleting the old files")
        _delete_leftovers(home)
        shutil.rmtree(home.objects / OLD_VERSIONS, ignore_errors=True)


def objects(account: Path) -> Iterator[OldObject]:
    """Yield the objects in an account's folder."""
    for bucket in sorted(path for path in account.iterdir() if path.is_dir()):
        for file in sorted(path for path in bucket.rglob("*") if path.is_file()):
            if not file.name.endswith((SIDECAR, UNFINISHED)):
                about = _sidecar(file)
                if not about.get("is_delete_marker"):
                    yield OldObject(bucket.name, about.get("key") or _key(bucket, file), file, _settings(about))


def _delete_leftovers(home: Home) -> None:
    for folder in home.objects.glob(f"{DONE_PREFIX}*"):
        shutil.rmtree(folder)


def _accounts(home: Home) -> Iterator[Path]:
    return (path for path in sorted(home.objects.glob("*")) if path.is_dir() and ACCOUNT.fullmatch(path.name))


def _key(bucket: Path, file: Path) -> str:
    return unquote(file.name) if file.parent == bucket / ENCODED else file.relative_to(bucket).as_posix()


def _sidecar(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.with_name(f"{file.name}{SIDECAR}").read_text()))
    except (FileNotFoundError, ValueError):  # the old server was killed before it wrote the sidecar
        return {}


def _settings(about: dict[str, Any]) -> dict[str, Any]:
    settings = {"ContentType": about.get("content_type"), "ContentEncoding": about.get("content_encoding")}
    settings |= {HEADERS[name]: value for name, value in about.get("preserved_headers", {}).items() if name in HEADERS}
    settings["Metadata"] = {
        name.lower().removeprefix("x-amz-meta-"): value for name, value in about.get("metadata", {}).items()
    }
    return {name: value for name, value in settings.items() if value}


def _move(home: Home, found: list[OldObject], s3: Any, echo: Echo) -> None:
    for bucket in {each.bucket for each in found} - {entry["Name"] for entry in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=bucket)
    _check_names(found)
    existing = {(bucket, key) for bucket in {each.bucket for each in found} for key in _keys(s3, bucket)}
    missing = [each for each in found if (each.bucket, each.name) not in existing]
    _check_free_disk(home, missing)
    echo(f"migrating {len(found)} objects from the old S3 server to the new one; this happens only once")
    reported = time.monotonic()
    with ThreadPoolExecutor(UPLOADS) as pool:
        for count, _ in enumerate(pool.map(lambda each: _upload(s3, each), missing), 1):
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                echo(f"migrated {count + len(found) - len(missing)} of {len(found)} objects")


def _keys(s3: Any, bucket: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        yield from (entry["Key"] for entry in page.get("Contents", ()))


def _upload(s3: Any, each: OldObject) -> None:
    try:
        s3.upload_file(str(each.file), each.bucket, each.key, ExtraArgs=each.settings, Config=IN_ONE_PART)
    except (ClientError, S3UploadFailedError, OSError) as error:
        raise _refusal(each, str(error)) from error


def _refusal(each: OldObject, reason: str) -> OperationError:
    return OperationError(
        f"the new S3 server rejects the object s3://{each.bucket}/{each.key} ({reason}): move its file "
        f"{each.file} to another folder, then rerun `make up`"
    )


def _check_names(found: list[OldObject]) -> None:
    """Refuse two objects that have the same key in SeaweedFS."""
    known: dict[tuple[str, str], str] = {}
    for each in found:
        other = known.setdefault((each.bucket, each.name), each.key)
        if other != each.key:
            raise _refusal(each, f"it treats {other} as the same key")


def _check_free_disk(home: Home, missing: list[OldObject]) -> None:
    needed = sum(each.file.stat().st_size for each in missing) + FREE_BYTES
    free = shutil.disk_usage(home.objects).free
    if free < needed:
        raise OperationError(
            f"the disk of {home.objects} has {free / 2**30:.1f} GiB free, and {needed / 2**30:.1f} GiB are required to "
            "migrate its objects to the new S3 server: free some space, then rerun `make up`"
        )
