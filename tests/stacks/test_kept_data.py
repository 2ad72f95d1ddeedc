"""The destruction of a protected stack under Pulumi's engine; skipped if the Pulumi CLI is missing."""

import json
import os
import shutil
from pathlib import Path

import pytest

from infra.settings import Settings
from ops.aws.account import Account
from ops.stacks.aws_stack import AwsStack
from tests.programs import write_cloud_plugin
from tests.pulumi_engine import small_stack

if missing := [program for program in ("pulumi", "pulumi-language-python") if not shutil.which(program)]:
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)

PROGRAM = """
import pulumi

def resource(type_, name, opts=None, **properties):
    return pulumi.CustomResource(type_, name, properties, opts)

class Bucket(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("airflow:aws:Bucket", f"{name}-bucket")
        protected = pulumi.ResourceOptions(parent=self, protect=True)
        bucket = resource("aws:s3/bucket:Bucket", name, protected, bucket=name, key=key.id)
        after = pulumi.ResourceOptions(parent=self, depends_on=[bucket])
        resource("aws:s3/bucketPolicy:BucketPolicy", f"{name}-policy", after, bucket=name)

key = resource("aws:kms/key:Key", "key", pulumi.ResourceOptions(protect=True))
resource("aws:eks/cluster:Cluster", "cluster", pulumi.ResourceOptions(protect=True), key=key.id)
Bucket("full")
Bucket("empty")
"""
ALL = {"key", "cluster", "full", "full-policy", "empty", "empty-policy"}


def test_data_outlives_a_stack_with_its_key_and_the_next_deployment_uses_it(
    account: Account, settings: Settings, tmp_path: Path
) -> None:
    s3 = account.client("s3")
    for bucket in ("full", "empty"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="full", Key="data")
    plugin = write_cloud_plugin(tmp_path, "aws")
    cloud = tmp_path / "cloud.json"
    cloud.write_text("{}")
    with small_stack(tmp_path, PROGRAM, f"{plugin.parent}:{os.environ['PATH']}", CLOUD=str(cloud)) as deployment:
        stack = AwsStack("small", settings.model_copy(update={"protect": True}), lambda _: None)
        vars(stack).update(account=account, deployment=deployment)
        stack.destroy()
        assert json.loads(cloud.read_text()).keys() == {"key", "full", "full-policy"}
        deployment.run("up", "--yes", "--skip-preview")
        assert json.loads(cloud.read_text()).keys() == ALL
        s3.delete_object(Bucket="full", Key="data")
        stack.destroy()
    assert json.loads(cloud.read_text()) == {}
