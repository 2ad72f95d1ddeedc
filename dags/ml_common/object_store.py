"""The two buckets that every pipeline uses.

Endpoint, region and credentials come from boto3's own environment variables (AWS_ENDPOINT_URL, AWS_REGION, ...) or from
the pod's identity; the buckets' names come from DATA_BUCKET and ARTIFACTS_BUCKET. Where several environments share the
buckets, BUCKET_PREFIX is this environment's folder, which keys here do not include.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote, unquote

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from s3transfer.exceptions import RetriesExceededError

from ml_common import lineage
from ml_common.errors import PermanentError, ServiceUnavailableError

MAX_CONNECTIONS = 32
CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=MAX_CONNECTIONS,
)
# A file is transferred in parts of 16 MiB, 4 at once; what was received and not yet written takes at most 25 MiB.
TRANSFER_CONFIG = TransferConfig(
    multipart_threshold=32 * 1024**2,
    multipart_chunksize=16 * 1024**2,
    max_concurrency=4,
    max_io_queue=100,
    preferred_transfer_client="classic",
)
# A client takes 20 MB, so threads that need it at the same time must share one.
CLIENT_CREATION = Lock()
PERMANENT_STATUS = range(400, 429)
MANIFEST = "manifest.json"
# Lineage names folders such as `flight_features/partitions`, not the partitions or versions in them.
LINEAGE_LEVELS = 2


@dataclass(frozen=True)
class StoredObject:
    """One entry of a listing; size in bytes."""

    key: str
    size: int
    storage_class: str


@dataclass(frozen=True)
class Bucket:
    """A bucket of the object store, or the part of it whose keys begin with `prefix`.

    Every method raises PermanentError if the bucket or object does not exist or access is denied, and
    ServiceUnavailableError if the object store does not answer or fails.
    """

    name: str
    prefix: str = ""

    def uri(self, key: str) -> str:
        """Return the `s3://` address of an object or folder."""
        return f"s3://{self.name}/{self.prefix}{key}"

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object under `prefix`, in the order of the keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix + prefix)
        with self._clear_errors(f"list {self.uri(prefix)}"):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield StoredObject(entry["Key"].removeprefix(self.prefix), entry["Size"], entry["StorageClass"])

    def exists(self, key: str) -> bool:
        """Return whether an object has exactly this key."""
        return self._head(key) is not None

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        with self._clear_errors(f"read {self.uri(key)}"):
            return int(self._client.head_object(Bucket=self.name, Key=self.prefix + key)["ContentLength"])

    def metadata(self, key: str) -> dict[str, str]:
        """Return the object's user-defined metadata, which is empty if there is no such object."""
        head = self._head(key) or {}
        return {name: unquote(value) for name, value in head.get("Metadata", {}).items()}

    def get(self, key: str) -> bytes:
        """Return the object's content."""
        with self._clear_errors(f"read {self.uri(key)}"):
            body: bytes = self._client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()
        lineage.reads(self._folder(key))
        return body

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return the object's bytes from `start` up to `end`, which is after `start`."""
        span = f"bytes={start}-{end - 1}"
        with self._clear_errors(f"read {self.uri(key)}"):
            body: bytes = self._client.get_object(Bucket=self.name, Key=self.prefix + key, Range=span)["Body"].read()
        lineage.reads(self._folder(key))
        return body

    def get_json(self, key: str) -> Any:
        """Return the value that `put_json` wrote."""
        return json.loads(self.get(key))

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object atomically."""
        with self._clear_errors(f"write {self.uri(key)}"):
            self._client.put_object(Bucket=self.name, Key=self.prefix + key, Body=data, ContentType=content_type)
        lineage.writes(self._folder(key))

    def upload(self, path: Path, key: str) -> None:
        """Write or overwrite an object atomically, without reading the file into memory."""
        with self._clear_errors(f"write {self.uri(key)}"), self._transfers() as transfers:
            transfers.upload(str(path), self.name, self.prefix + key).result()
        lineage.writes(self._folder(key))

    def download(self, key: str, path: Path) -> None:
        """Download the object to a file, which appears when it is complete, without holding it in memory."""
        with self._clear_errors(f"read {self.uri(key)}"), self._transfers() as transfers:
            transfers.download(self.name, self.prefix + key, str(path)).result()
        lineage.reads(self._folder(key))

    def put_json(self, key: str, value: Any) -> None:
        """Write a value as JSON; equal values give equal bytes."""
        self.put(key, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode())

    def delete(self, key: str) -> None:
        """Delete the object; there need not be one."""
        with self._clear_errors(f"delete {self.uri(key)}"):
            self._client.delete_object(Bucket=self.name, Key=self.prefix + key)

    def move(self, key: str, new_key: str, metadata: Mapping[str, str]) -> None:
        """Copy, then delete, so that a failure between the two loses nothing."""
        with self._clear_errors(f"move {self.uri(key)} to {self.uri(new_key)}"):
            self._client.copy_object(
                Bucket=self.name,
                Key=self.prefix + new_key,
                CopySource={"Bucket": self.name, "Key": self.prefix + key},
                MetadataDirective="REPLACE",
                Metadata={name: quote(value, safe=" ") for name, value in metadata.items()},  # S3 takes ASCII only
            )
            self._client.delete_object(Bucket=self.name, Key=self.prefix + key)
        lineage.writes(self._folder(new_key))

    def set_storage_class(self, key: str, storage_class: str) -> bool:
        """Copy an object onto itself with another storage class; return whether the object store has this class."""
        source = {"Bucket": self.name, "Key": self.prefix + key}
        with self._clear_errors(f"change the storage class of {self.uri(key)}"):
            try:
                self._client.copy_object(**source, CopySource=source, StorageClass=storage_class)
            except ClientError as error:
                if error.response["Error"]["Code"] == "InvalidStorageClass":
                    return False
                raise
        return True

    def publish(self, folder: str, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
        """Write `files` under `folder`, which ends in "/", then the manifest that marks the output as complete."""
        for name, data in files.items():
            self.put(folder + name, data)
        self.put_json(folder + MANIFEST, manifest)

    def published(self, folder: str) -> dict[str, Any] | None:
        """Return the manifest of a complete output, or None."""
        if not self.exists(folder + MANIFEST):
            return None
        manifest: dict[str, Any] = self.get_json(folder + MANIFEST)
        return manifest

    def _folder(self, key: str) -> str:
        """Return the address of an object's folder for lineage."""
        *folders, _ = key.split("/")
        return self.uri(quote("/".join(folders[:LINEAGE_LEVELS])))

    def _head(self, key: str) -> dict[str, Any] | None:
        with self._clear_errors(f"look for {self.uri(key)}"):
            try:
                head: dict[str, Any] = self._client.head_object(Bucket=self.name, Key=self.prefix + key)
                return head
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return None
                raise

    @property
    def _client(self) -> Any:
        with CLIENT_CREATION:
            return self._created_client

    @cached_property
    def _created_client(self) -> Any:
        return boto3.client("s3", config=CLIENT_CONFIG)

    def _transfers(self) -> Any:
        # boto3's own `upload_file` hides the status of a refusal in a message.
        return create_transfer_manager(self._client, TRANSFER_CONFIG)

    @contextmanager
    def _clear_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except NoCredentialsError as error:
            raise PermanentError(
                f"Could not {action}: this task has no credentials for the object store; "
                "give its service account a role or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            reason = error.response["Error"].get("Message") or error.response["Error"]["Code"]
            kind = PermanentError if status in PERMANENT_STATUS else ServiceUnavailableError
            raise kind(f"Could not {action}: the object store answered {status}, {reason.rstrip('.')}.") from error
        except (BotoCoreError, RetriesExceededError) as error:
            raise ServiceUnavailableError(
                f"Could not {action}: the object store at {self._client.meta.endpoint_url} does not answer; "
                f"check that it is running and reachable ({type(error).__name__})."
            ) from error


def data_bucket() -> Bucket:
    """Return the bucket of the images."""
    return _bucket_named_by("DATA_BUCKET")


def artifacts_bucket() -> Bucket:
    """Return the bucket of everything that the pipelines make."""
    return _bucket_named_by("ARTIFACTS_BUCKET")


def _bucket_named_by(variable: str) -> Bucket:
    if not os.environ.get(variable):
        raise PermanentError(f"The environment variable {variable} is not set: set it to the name of the bucket.")
    return Bucket(os.environ[variable], os.environ.get("BUCKET_PREFIX", ""))
