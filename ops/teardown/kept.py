"""What a confirmed destruction of a protected stack deletes, and what it keeps on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.aws.names import Names
from ops.aws.account import Account, aws_errors
from ops.console import Echo
from ops.pulumi.deployment import Deployment

BUCKET = "aws:s3/bucket:Bucket"


def keep_buckets_with_data(account: Account, deployment: Deployment, echo: Echo) -> None:
    """Remove the protection in Pulumi's state from everything but the buckets that contain data, with their settings.

    Raises:
        OperationError: The state cannot be changed, or AWS refused a request.
    """
    deployment.run("state", "unprotect", "--all", "--yes")
    resources = deployment.resources()
    buckets = [one for one in resources if one["type"] == BUCKET and _has_data(account, one["outputs"]["bucket"])]
    for bucket in buckets:
        echo(f"keeping the bucket {bucket['outputs']['bucket']}, because it contains data")
    components = {bucket["parent"] for bucket in buckets}
    if urns := [resource["urn"] for resource in resources if resource.get("parent") in components]:
        deployment.run("state", "protect", *urns, "--yes")


def delete_repositories(account: Account, names: Names, echo: Echo) -> None:
    """Delete the image repositories of a stack, which Pulumi keeps as long as they contain images.

    Raises:
        OperationError: AWS refused a request.
    """
    with aws_errors():
        ecr = account.client("ecr")
        for page in ecr.get_paginator("describe_repositories").paginate():
            for name in (repository["repositoryName"] for repository in page["repositories"]):
                if name.startswith(f"{names.prefix}/"):
                    ecr.delete_repository(repositoryName=name, force=True)
                    echo(f"deleted the image repository {name} with its images")


def arns_in_state(resources: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the ARNs of the resources that Pulumi still manages."""
    return {str(resource["outputs"]["arn"]) for resource in resources if "arn" in resource.get("outputs", {})}


def _has_data(account: Account, bucket: str) -> bool:
    with aws_errors():
        s3 = account.client("s3")
        try:
            found = s3.list_object_versions(Bucket=bucket, MaxKeys=1)
        except s3.exceptions.NoSuchBucket:
            return False
    return bool(found.get("Versions") or found.get("DeleteMarkers"))
