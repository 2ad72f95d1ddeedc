"""Create or update the bucket and the key that Pulumi needs for a stack's state."""

import json
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import OperationError
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors, error_code
from ops.console import Echo
from ops.pulumi.backend import Backend

US_EAST_1 = "us-east-1"  # must not be set as LocationConstraint: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
TAGS = {"project": PROJECT, "purpose": "pulumi-state"}


def bootstrap(account: Account, backend: Backend, echo: Echo) -> None:
    """Create or update the bucket and the key.

    Raises:
        OperationError: Another account owns the bucket, the key is being deleted, or AWS refused a request.
    """
    with aws_errors():
        echo(_ensure_bucket(account, backend.bucket))
        echo(_ensure_key(account.client("kms"), backend.key_alias))


def bucket_exists(account: Account, bucket: str) -> bool:
    """Return whether the bucket exists in the account.

    Raises:
        OperationError: Another account owns the bucket, or access is denied.
    """
    try:
        account.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account.id)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchBucket"):
            return False
        if error_code(error) in ("403", "AccessDenied"):
            raise _not_ours(bucket, account) from error
        raise
    return True


def _ensure_bucket(account: Account, bucket: str) -> str:
    s3 = account.client("s3")
    existed = bucket_exists(account, bucket)
    if not existed:
        _create_bucket(s3, bucket, account)
    ours = {"Bucket": bucket, "ExpectedBucketOwner": account.id}
    s3.put_public_access_block(**ours, PublicAccessBlockConfiguration=dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True))  # fmt: skip
    s3.put_bucket_versioning(**ours, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_encryption(
        **ours,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    s3.put_bucket_policy(**ours, Policy=tls_only(bucket))
    s3.put_bucket_tagging(**ours, Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in TAGS.items()]})
    return f"s3://{bucket} {'already exists' if existed else 'created'}: versioned, encrypted, private, TLS only"


def _create_bucket(s3: Any, bucket: str, account: Account) -> None:
    place = {} if account.region == US_EAST_1 else {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
    try:
        s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerEnforced", **place)
    except ClientError as error:
        if error_code(error) == "BucketAlreadyExists":
            raise _not_ours(bucket, account) from error
        raise


def _not_ours(bucket: str, account: Account) -> OperationError:
    return OperationError(
        f"{account.arn} has no access to the bucket {bucket}: check the permissions of the credentials, and that "
        f"account {account.id} owns the bucket"
    )


def tls_only(bucket: str) -> str:
    """Return the bucket policy that denies requests without TLS."""
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _ensure_key(kms: Any, alias: str) -> str:
    try:
        key = kms.describe_key(KeyId=alias)["KeyMetadata"]
    except kms.exceptions.NotFoundException:
        key = _create_key(kms, alias)
        outcome = "created"
    else:
        outcome = "already exists"
    if key["KeyState"] != "Enabled":
        raise OperationError(
            f"the key {alias} of the stack's secrets is in the state {key['KeyState']}: enable it with "
            "`aws kms cancel-key-deletion` and `aws kms enable-key`"
        )
    kms.enable_key_rotation(KeyId=key["KeyId"])
    return f"{alias} {outcome}: encrypts Pulumi's secrets, rotates every year"


def _create_key(kms: Any, alias: str) -> Any:
    tags = [{"TagKey": key, "TagValue": value} for key, value in TAGS.items()]
    key = kms.create_key(Description=f"{alias.removeprefix('alias/')}: secrets in Pulumi's state", Tags=tags)[
        "KeyMetadata"
    ]
    kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    return key
