"""Move the objects of a home that was made when the S3 server was the emulator ministack (1.5.33) into SeaweedFS.

Its folder has one for each account, in that one for each bucket, and in that the objects: each at the path that its key
says, or where a file system cannot hold that, under an encoded name. A file with the suffix `.meta.json` has the
object's key and headers, or says that the object was deleted. Old versions, in `.versions`, are not moved.

The old files stay until all objects are in the new server. A move that was interrupted goes on where it was.
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
FREE_BYTES = 2 * 2**30  # the new server takes no object when less than half of it is left
# In one part, so that the ETag stays the digest of the content.
IN_ONE_PART = TransferConfig(multipart_threshold=5 * 2**30, use_threads=False)


@dataclass(frozen=True)
class OldObject:
    """An object in the old folder.

    Attributes:
        settings: Its headers and metadata, as boto3's `upload_file` takes them.
    """

    bucket: str
    key: str
    file: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The key under which SeaweedFS lists it: it reads `a//b` and `a\\b` as `a/b`."""
        return re.sub(r"[/\\]+", "/", self.key).removeprefix("/")


def pending(home: Home) -> bool:
    """Say whether the home has objects that are not moved yet."""
    return any(_accounts(home))


def move(home: Home, s3: Any, echo: Echo) -> None:
    """Move all objects, whose buckets exist or are created, and delete the old files.

    Raises:
        OperationError: The disk has too little room, or an object is not accepted.
    """
    _delete_leftovers(home)
    for account in list(_accounts(home)):
        found = list(objects(account))
        _move(home, found, s3, echo)
        # Renamed first: half a folder is not taken for objects that are still to be moved.
        account.rename(home.objects / f"{DONE_PREFIX}{account.name}")
        echo(f"the new S3 server has all {len(found)} objects; deleting their old files")
        _delete_leftovers(home)
        shutil.rmtree(home.objects / OLD_VERSIONS, ignore_errors=True)


def objects(account: Path) -> Iterator[OldObject]:
    """Yield the objects in the folder of an account."""
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
    except (FileNotFoundError, ValueError):  # killed between the two files, or by a power failure
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
    there = {(bucket, key) for bucket in {each.bucket for each in found} for key in _keys(s3, bucket)}
    missing = [each for each in found if (each.bucket, each.name) not in there]
    _check_free_disk(home, missing)
    echo(f"moving {len(found)} objects from the old S3 server's files into the new one; this happens once")
    reported = time.monotonic()
    with ThreadPoolExecutor(UPLOADS) as pool:
        for count, _ in enumerate(pool.map(lambda each: _upload(s3, each), missing), 1):
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                echo(f"{count + len(found) - len(missing)} of {len(found)} objects are moved")


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
        f"the new S3 server does not accept the object s3://{each.bucket}/{each.key} ({reason}): move its file "
        f"{each.file} to another folder, then run `make up` again"
    )


def _check_names(found: list[OldObject]) -> None:
    """Refuse two objects that are one in SeaweedFS."""
    known: dict[tuple[str, str], str] = {}
    for each in found:
        other = known.setdefault((each.bucket, each.name), each.key)
        if other != each.key:
            raise _refusal(each, f"{other} is the same to it")


def _check_free_disk(home: Home, missing: list[OldObject]) -> None:
    needed = sum(each.file.stat().st_size for each in missing) + FREE_BYTES
    free = shutil.disk_usage(home.objects).free
    if free < needed:
        raise OperationError(
            f"{free / 2**30:.1f} GiB are free on the disk of {home.objects} and {needed / 2**30:.1f} are needed to "
            "move its objects to the new S3 server: free some, then run `make up` again"
        )
