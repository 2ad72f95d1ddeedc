"""A moto server with the buckets, roles and policies of a recorded stack."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from ops.plan.resources import Recording

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
READ, WRITE, DELETE = "read", "write", "delete"

PREFIXES = {
    "data": (
        *("images/", "quarantine/", "image_classifier/", "flight_features/", "flight_features/raw/", "flight_model/"),
        *("flight_monitor/", "flight_scores/", "docs_index/", "smoke_test/", "elsewhere/"),
        *("external_training_sagemaker/", "docs_assistant/"),
    ),
    "artifacts": (
        *("image_classifier/", "flight_features/", "flight_model/", "flight_monitor/", "flight_scores/", "smoke_test/"),
        *("docs_index/", "docs_assistant/", "external_training_sagemaker/", "mlflow/", "elsewhere/"),
    ),
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
            # moto keeps both for the next server of this process.
            requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10)
            requests.post(f"{endpoint}/moto-api/reset", timeout=10)
            server.stop()
