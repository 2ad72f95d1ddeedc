"""Delete an environment's objects from its base's buckets."""

from __future__ import annotations

from typing import Any

from infra.errors import OperationError
from infra.preview_names import bucket_prefix
from ops.aws.account import aws_errors
from ops.console import Echo
from ops.stacks.platform_stack import PlatformStack

BUCKETS = ("data", "artifacts", "logs")


def delete_objects(base: PlatformStack, stack: str, echo: Echo) -> None:
    """Delete the environment's objects in all buckets of its base.

    Raises:
        OperationError: Some objects cannot be deleted.
    """
    with aws_errors(), base.object_store() as client:
        count = sum(empty(client, base.outputs[f"{name}_bucket"], bucket_prefix(stack)) for name in BUCKETS)
    echo(f"deleted {count} objects under {bucket_prefix(stack)}")


def empty(client: Any, bucket: str, prefix: str) -> int:
    """Delete all objects under a prefix of a bucket, and return their number.

    Raises:
        OperationError: Some objects cannot be deleted.
    """
    deleted = 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
        if keys:
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            if errors := answer.get("Errors"):
                first = errors[0]
                raise OperationError(
                    f"{len(errors)} objects under s3://{bucket}/{prefix} cannot be deleted ({first['Code']}: "
                    f"{first['Key']}): check the permissions of the credentials"
                )
        deleted += len(keys)
    return deleted
