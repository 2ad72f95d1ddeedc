"""Delete an environment's objects from its base's buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra import seaweedfs
from infra.errors import OperationError
from infra.existing_cluster import object_store
from infra.preview_names import bucket_prefix
from ops import own_s3
from ops.aws.account import aws_errors
from ops.console import Echo
from ops.kubernetes.kubectl import forwarded
from ops.loopback import LOOPBACK
from ops.previews.base import Base
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment

BUCKETS = ("data", "artifacts", "logs")


def delete_objects(base: Base, stack: str, echo: Echo) -> None:
    """Delete the environment's objects in all buckets of its base.

    Raises:
        OperationError: Some objects cannot be deleted.
    """
    with aws_errors(), _client(base) as client:
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


@contextmanager
def _client(base: Base) -> Iterator[Any]:
    """Yield an S3 client for the base's object store."""
    deployment = base.deployment
    if not isinstance(deployment, ExistingClusterDeployment):
        yield deployment.account.client("s3")
        return
    servers, keys = base.setup_namespace, base.outputs["object_store_credentials"]
    target = f"service/{object_store.SERVER}"
    with forwarded(base.installation.cluster, servers, target, object_store.PORT) as port:
        yield own_s3.client(
            f"http://{LOOPBACK}:{port}",
            seaweedfs.REGION,
            keys["AWS_ACCESS_KEY_ID"],
            keys["AWS_SECRET_ACCESS_KEY"],
        )
