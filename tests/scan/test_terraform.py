"""A stack's AWS resources as Terraform's JSON."""

import json
from typing import Any

import pytest

from ops.plan.resources import Recording, Resource
from ops.scan.terraform import configuration
from tests.recordings import recorded


def resource(type_: str, name: str, inputs: dict[str, Any], *dependencies: Resource) -> Resource:
    urn = f"urn:pulumi:dev::airflow::{type_}::{name}"
    return Resource(urn=urn, type=type_, name=name, inputs=inputs, dependencies=tuple(one.urn for one in dependencies))


def resources_of(*resources: Resource) -> Any:
    return configuration(Recording("airflow", "dev", "us-east-1", resources))["resource"]


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("aws:ec2/vpc:Vpc", "aws_vpc"),
        ("aws:ec2/securityGroup:SecurityGroup", "aws_security_group"),
        ("aws:rds/instance:Instance", "aws_db_instance"),
        ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "aws_s3_bucket_public_access_block"),
    ],
)
def test_types_have_terraforms_names(type_: str, expected: str) -> None:
    assert list(resources_of(resource(type_, "mine", {}))) == [expected]


def test_repeated_blocks_are_singular_and_lists_of_values_are_not() -> None:
    inputs = {"encryptionConfigurations": [{"encryptionType": "KMS"}], "subnetIds": ["subnet-1"]}
    found = resources_of(resource("aws:ecr/repository:Repository", "mine", inputs))
    assert found["aws_ecr_repository"]["mine"] == {
        "encryption_configuration": [{"encryption_type": "KMS"}],
        "subnet_ids": ["subnet-1"],
    }


def test_the_names_of_tags_stay() -> None:
    found = resources_of(resource("aws:ec2/vpc:Vpc", "mine", {"tags": {"costCenter": "ml"}}))
    assert found["aws_vpc"]["mine"]["tags"] == {"costCenter": "ml"}


def test_a_resource_refers_to_those_it_depends_on() -> None:
    bucket = resource("aws:s3/bucket:Bucket", "data", {"bucket": "airflow-data"})
    block_type = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    block = resource(block_type, "block", {"bucket": "airflow-data"}, bucket)
    stranger = resource("aws:s3/bucketVersioning:BucketVersioning", "versions", {"bucket": "airflow-data"})
    found = resources_of(bucket, block, stranger)
    assert found["aws_s3_bucket_public_access_block"]["block"] == {"bucket": "${aws_s3_bucket.data.id}"}
    assert found["aws_s3_bucket_versioning"]["versions"] == {"bucket": "airflow-data"}


def test_only_resources_of_aws_are_written_and_no_secret() -> None:
    found = configuration(recorded("prod"))
    assert all(type_.startswith("aws_") for type_ in found["resource"])
    assert found["resource"]["aws_db_instance"]["database"]["password"] == "[secret]"
    assert json.dumps(found)
