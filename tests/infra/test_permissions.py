"""The IAM policies, evaluated by moto: it checks actions and resources as IAM does, but ignores conditions.

The conditions (listing by prefix, using the key only through S3) are tested in `test_aws_decisions`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from ops.plan.resources import Recording
from tests import contributing

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
READ, WRITE, DELETE = "read", "write", "delete"

# (bucket, prefix): the actions allowed on these objects. All others are denied.
ALLOWED: dict[str, dict[tuple[str, str], set[str]]] = {
    "airflow-scheduler": {},
    "airflow-dag-processor": {},
    "airflow-api-server": {("logs", "airflow/"): {READ}},
    "airflow-triggerer": {("logs", "airflow/"): {READ, WRITE}},
    "dag-image-classifier": {
        ("data", "image_classifier/"): {READ, WRITE, DELETE},
        ("data", "images/"): {READ, WRITE, DELETE},
        ("data", "quarantine/"): {READ, WRITE, DELETE},
        ("artifacts", "image_classifier/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    # A DAG without dag.yaml.
    "dag-smoke-test": {
        ("data", "smoke_test/"): {READ, WRITE, DELETE},
        ("artifacts", "smoke_test/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    # A DAG that was pushed after the deployment.
    "airflow-task": {
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "mlflow": {("artifacts", "mlflow/"): {READ, WRITE, DELETE}},
    "serving": {("artifacts", "mlflow/"): {READ}},
}
PREFIXES = {
    "data": ("images/", "quarantine/", "image_classifier/", "smoke_test/", "elsewhere/"),
    "artifacts": ("image_classifier/", "smoke_test/", "mlflow/", "elsewhere/"),
    "logs": ("airflow/", "elsewhere/"),
}
PLACES = [(bucket, prefix) for bucket, prefixes in PREFIXES.items() for prefix in prefixes]


class Cloud:
    """A moto server with the buckets and roles of a stack, which checks every request."""

    def __init__(self, recording: Recording, endpoint: str, accounts: Iterable[str]) -> None:
        self.endpoint = endpoint
        self.buckets = {b.name: b.inputs["bucket"] for b in recording.of_type("aws:s3/bucket:Bucket")}
        admin = self.session("admin", "admin", None)
        for name in self.buckets.values():
            self.client(admin, "s3").create_bucket(Bucket=name)
        for bucket, prefix in PLACES:
            self.client(admin, "s3").put_object(Bucket=self.buckets[bucket], Key=f"{prefix}object", Body=b"x")
        iam, sts = self.client(admin, "iam"), self.client(admin, "sts")
        self.sessions: dict[str, boto3.Session] = {}
        for account in accounts:
            role = self._create_role(iam, recording, account)
            known = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
            self.sessions[account] = self.session(known["AccessKeyId"], known["SecretAccessKey"], known["SessionToken"])

    @staticmethod
    def session(key: str, secret: str, token: str | None) -> boto3.Session:
        return boto3.Session(key, secret, token, region_name="us-east-1")

    def client(self, session: boto3.Session, service: str) -> Any:
        return session.client(service, endpoint_url=self.endpoint)

    @staticmethod
    def _create_role(iam: Any, recording: Recording, account: str) -> str:
        [association] = [
            one
            for one in recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
            if one.inputs["serviceAccount"] == account
        ]
        purpose = association.name.removesuffix("-identity")
        [role] = [one for one in recording.of_type("aws:iam/role:Role") if one.name == f"{purpose}-role"]
        arn = iam.create_role(RoleName=role.inputs["name"], AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        for policy in recording.of_type("aws:iam/rolePolicy:RolePolicy"):
            if policy.inputs["role"] == role.inputs["name"]:
                iam.put_role_policy(
                    RoleName=policy.inputs["role"], PolicyName=policy.name, PolicyDocument=policy.inputs["policy"]
                )
        return str(arn)

    def may(self, account: str, action: str, bucket: str, prefix: str) -> bool:
        s3 = self.client(self.sessions[account], "s3")
        place = {"Bucket": self.buckets[bucket], "Key": f"{prefix}object"}
        match action:
            case "read":
                return allowed(lambda: s3.get_object(**place))
            case "write":
                return allowed(lambda: s3.put_object(**place, Body=b"x"))
            case _:
                return allowed(lambda: s3.delete_object(**place))

    def may_list(self, account: str, bucket: str, prefix: str) -> bool:
        s3 = self.client(self.sessions[account], "s3")
        return allowed(lambda: s3.list_objects_v2(Bucket=self.buckets[bucket], Prefix=prefix))


def allowed(request: Callable[[], Any]) -> bool:
    """Return whether a request is allowed; raise any error but a denial."""
    try:
        request()
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True


@contextmanager
def cloud_of(recording: Recording, accounts: Iterable[str]) -> Iterator[Cloud]:
    """Start a moto server with what a stack creates in AWS."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.delenv(name, raising=False)
        patch.setenv("no_proxy", "127.0.0.1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        try:
            made = Cloud(recording, endpoint, accounts)
            requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
            yield made
        finally:
            requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10)
            server.stop()


@pytest.fixture(scope="module")
def cloud(prod: Recording) -> Iterator[Cloud]:
    with cloud_of(prod, ALLOWED) as made:
        yield made


# In this order, so that objects exist before they are read or deleted.
@pytest.mark.parametrize("action", [READ, DELETE, WRITE])
@pytest.mark.parametrize(("bucket", "prefix"), PLACES)
@pytest.mark.parametrize("account", ALLOWED)
def test_an_account_has_exactly_the_permissions_that_it_needs(
    cloud: Cloud, account: str, bucket: str, prefix: str, action: str
) -> None:
    assert cloud.may(account, action, bucket, prefix) is (action in ALLOWED[account].get((bucket, prefix), set()))


@pytest.mark.parametrize(("bucket", "prefix"), PLACES)
@pytest.mark.parametrize("account", ALLOWED)
def test_an_account_lists_only_buckets_that_it_works_with(cloud: Cloud, account: str, bucket: str, prefix: str) -> None:
    works_with = any(place[0] == bucket for place in ALLOWED[account])
    assert cloud.may_list(account, bucket, prefix) is works_with


@pytest.mark.parametrize("account", ALLOWED)
def test_an_account_cannot_extend_its_permissions(cloud: Cloud, account: str) -> None:
    iam = cloud.client(cloud.sessions[account], "iam")
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.list_roles()


def test_every_account_of_the_stack_is_tested(prod: Recording) -> None:
    associations = prod.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert {one.inputs["serviceAccount"] for one in associations} == ALLOWED.keys()


def test_a_task_moves_an_unreadable_image_to_quarantine(cloud: Cloud) -> None:
    s3 = cloud.client(cloud.sessions["dag-image-classifier"], "s3")
    bucket = cloud.buckets["data"]
    s3.put_object(Bucket=bucket, Key="images/broken.png", Body=b"x")
    s3.copy_object(
        Bucket=bucket,
        Key="quarantine/images/broken.png",
        CopySource={"Bucket": bucket, "Key": "images/broken.png"},
        MetadataDirective="REPLACE",
        Metadata={"reason": "no image"},
    )
    s3.delete_object(Bucket=bucket, Key="images/broken.png")
    assert s3.head_object(Bucket=bucket, Key="quarantine/images/broken.png")["Metadata"] == {"reason": "no image"}


def test_the_example_for_authors_may_use_what_it_declares_and_nothing_else(tmp_path: Path) -> None:
    contributing.copy(tmp_path)
    contributing.follow(tmp_path)
    with cloud_of(contributing.recorded(tmp_path, "prod"), ["dag-churn"]) as cloud:
        bucket = cloud.buckets["data"]
        s3 = cloud.client(cloud.sessions["dag-churn"], "s3")
        for key in ("churn/tables/a.csv", "scores/churn.txt"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        assert not cloud.may("dag-churn", WRITE, "data", "images/")
        assert not cloud.may("dag-churn", WRITE, "artifacts", "image_classifier/")
        assert cloud.may("dag-churn", WRITE, "artifacts", "mlflow/")
