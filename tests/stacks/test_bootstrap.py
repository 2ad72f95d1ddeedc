import json
import re

import pytest
from botocore.exceptions import ClientError

from infra.errors import OperationError
from ops.aws.account import Account
from ops.pulumi.backend import Backend, backend_of
from ops.pulumi.bootstrap import bootstrap

BACKEND = backend_of("dev", "123456789012", "us-east-1")


def run(account: Account, backend: Backend = BACKEND) -> list[str]:
    said: list[str] = []
    bootstrap(account, backend, said.append)
    return said


def test_the_bucket_is_versioned_encrypted_private_and_refuses_requests_without_tls(account: Account) -> None:
    run(account)
    s3, bucket = account.client("s3"), {"Bucket": BACKEND.bucket}
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    rules = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert all(s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values())
    statement = json.loads(s3.get_bucket_policy(**bucket)["Policy"])["Statement"][0]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{BACKEND.bucket}", f"arn:aws:s3:::{BACKEND.bucket}/*"]


def test_a_request_without_tls_is_refused(account: Account) -> None:
    run(account)
    with pytest.raises(ClientError, match="403"):
        account.client("s3").put_object(Bucket=BACKEND.bucket, Key="state", Body=b"over http")


def test_the_key_has_its_alias_and_rotates_every_year(account: Account) -> None:
    run(account)
    kms = account.client("kms")
    key = kms.describe_key(KeyId=BACKEND.key_alias)["KeyMetadata"]
    assert key["KeyState"] == "Enabled"
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]


def test_a_second_run_keeps_the_bucket_and_the_key(account: Account) -> None:
    first = run(account)
    kms = account.client("kms")
    key = kms.describe_key(KeyId=BACKEND.key_alias)["KeyMetadata"]["KeyId"]
    second = run(account)
    assert [line.count("created") for line in first] == [1, 1]
    assert [line.count("already exists") for line in second] == [1, 1]
    assert len(kms.list_keys()["Keys"]) == 1
    assert kms.describe_key(KeyId=BACKEND.key_alias)["KeyMetadata"]["KeyId"] == key
    assert [bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]] == [BACKEND.bucket]


def test_a_second_run_restores_the_protection(account: Account) -> None:
    run(account)
    s3 = account.client("s3")
    s3.put_bucket_versioning(Bucket=BACKEND.bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_policy(Bucket=BACKEND.bucket)
    run(account)
    assert s3.get_bucket_versioning(Bucket=BACKEND.bucket)["Status"] == "Enabled"
    assert "TlsOnly" in s3.get_bucket_policy(Bucket=BACKEND.bucket)["Policy"]


def test_stacks_share_the_bucket_and_have_a_key_each(account: Account) -> None:
    prod = backend_of("prod", "123456789012", "us-east-1")
    run(account)
    run(account, prod)
    assert prod.bucket == BACKEND.bucket
    assert len(account.client("kms").list_keys()["Keys"]) == 2


def test_a_bucket_of_another_account_is_refused(account: Account, other_account: Account) -> None:
    other_account.client("s3").create_bucket(Bucket=BACKEND.bucket)
    with pytest.raises(OperationError, match=rf"has no access to the bucket {BACKEND.bucket}: check the permissions"):
        run(account)


def test_a_key_that_is_being_deleted_is_refused(account: Account) -> None:
    run(account)
    kms = account.client("kms")
    kms.schedule_key_deletion(KeyId=kms.describe_key(KeyId=BACKEND.key_alias)["KeyMetadata"]["KeyId"])
    with pytest.raises(OperationError, match=r"alias/airflow-dev-pulumi of .* is in the state PendingDeletion: enable"):
        run(account)


@pytest.mark.parametrize("stack", ["dev", "a-stack-with-a-name-of-its-own"])
def test_names_keep_within_the_limits_of_aws(stack: str) -> None:
    backend = backend_of(stack, "123456789012", "ap-southeast-1")
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", backend.bucket)
    assert len(backend.key_alias) <= 256


def test_pulumi_is_given_the_region_of_bucket_and_key() -> None:
    assert BACKEND.url == "s3://airflow-pulumi-state-123456789012-us-east-1?region=us-east-1"
    assert BACKEND.secrets_provider == "awskms://alias/airflow-dev-pulumi?region=us-east-1"
