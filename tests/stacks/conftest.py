import json
import logging
import os
from collections.abc import Iterator

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from infra.settings import Settings, load_aws
from ops.aws.account import Account, account_of
from ops.pulumi import bootstrap
from ops.pulumi.backend import Backend


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty mock of AWS for all clients, isolated from the machine's settings."""
    httpx.post(f"{server}/moto-api/reset", trust_env=False)
    for name in [name for name in os.environ if name.startswith("AWS_")]:  # of the user, or of another test's session
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    boto3.DEFAULT_SESSION = None
    return server


@pytest.fixture
def state_in_mock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Pulumi keep its state in the mock of AWS, which has no host name for each bucket, and no TLS."""
    monkeypatch.setattr(
        Backend, "url", property(lambda self: f"s3://{self.bucket}?region={self.region}&use_path_style=true")
    )
    monkeypatch.setattr(bootstrap, "tls_only", lambda _: json.dumps({"Version": "2012-10-17", "Statement": []}))


@pytest.fixture
def settings() -> Settings:
    return load_aws("dev")


@pytest.fixture
def account(aws: str, settings: Settings) -> Account:
    return account_of("dev", settings)


@pytest.fixture
def other_account(account: Account, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Account:
    """Another account, without access to the buckets of the first."""
    monkeypatch.setenv("MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS", "false")
    role = "arn:aws:iam::999999999999:role/somebody-else"
    keys = account.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
    return account_of("dev", settings)
