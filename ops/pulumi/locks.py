"""The locks of a stack. A Pulumi command that is killed leaves its lock, and every later command stops at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, parse_qs, urlsplit

import boto3

from ops.aws.account import aws_errors

# https://github.com/pulumi/pulumi/blob/master/pkg/backend/diy/lock.go
FOLDER = ".pulumi/locks"


@dataclass(frozen=True)
class Lock:
    """Who holds a lock, and since when."""

    user: str
    host: str
    process: int
    since: datetime

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (process {self.process}) since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def locks_of(stack: str, backend: str) -> list[Lock]:
    """Return the locks of a stack in the state at a bucket's or a folder's address.

    Raises:
        OperationError: AWS refused a request.
    """
    address = urlsplit(backend)
    texts = _in_bucket(stack, address) if address.scheme == "s3" else _in_folder(stack, address)
    return [_parsed(text) for text in texts]


def _in_folder(stack: str, address: SplitResult) -> Iterator[str]:
    for file in Path(address.path, FOLDER).glob(f"**/{stack}/*.json"):
        yield file.read_text()


def _in_bucket(stack: str, address: SplitResult) -> Iterator[str]:
    bucket, region = address.netloc, parse_qs(address.query)["region"][0]
    with aws_errors():
        s3 = boto3.client("s3", region_name=region)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{FOLDER}/")
        for key in (item["Key"] for page in pages for item in page.get("Contents", ())):
            if PurePosixPath(key).parent.name == stack:
                yield s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def _parsed(text: str) -> Lock:
    content = json.loads(text)
    since = datetime.fromisoformat(content["timestamp"]).astimezone(UTC)
    return Lock(content["username"], content["hostname"], content["pid"], since)
