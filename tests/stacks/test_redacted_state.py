"""Drift without secrets: the compared state contains none, and resources that contain only secrets are skipped."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.errors import OperationError
from infra.settings import load_aws
from ops.aws.account import Account
from ops.cli import app, stacks
from ops.drift import redacted_state
from ops.drift.drift import Drifted, drifted, known
from ops.drift.redacted_state import IS_SECRET, MARK, local, redacted, secret_urns, without_secrets
from ops.plan.difference import Change
from ops.pulumi.backend import backend_of
from ops.stacks.aws_stack import AwsStack
from tests.programs import write_cloud_plugin

PREFIX = "urn:pulumi:small::airflow::"
PROVIDER = f"{PREFIX}pulumi:providers:cloud::cloud"
CIPHERTEXT = "v1:the-ciphertext"


def secret(text: str = CIPHERTEXT) -> dict[str, str]:
    return {MARK: IS_SECRET, "ciphertext": text}


def thing(name: str, kind: str = "cloud:index:Thing", **properties: Any) -> dict[str, Any]:
    return {
        "urn": f"{PREFIX}{kind}::{name}",
        "custom": True,
        "id": name,
        "type": kind,
        "inputs": properties,
        "outputs": properties,
        "provider": f"{PROVIDER}::1",
    }


def state() -> dict[str, Any]:
    """A deployment in the format of Pulumi's state."""
    return {
        "manifest": {"time": "2026-01-01T00:00:00Z", "magic": "", "version": ""},
        "secrets_providers": {"type": "cloud", "state": {"url": "awskms://alias/x", "encryptedkey": CIPHERTEXT}},
        "resources": [
            {"urn": f"{PREFIX}pulumi:pulumi:Stack::airflow-small", "custom": False, "type": "pulumi:pulumi:Stack"},
            {"urn": PROVIDER, "custom": True, "id": "1", "type": "pulumi:providers:cloud", "inputs": {}, "outputs": {}},
            thing("queue", size=2, tags=[{"team": "ml"}]),
            thing("server", size=1, password=secret()),
            thing("login", kind="random:index/randomPassword:RandomPassword", result=secret()),
            thing("key", kind="kubernetes:core/v1:Secret", data={"a": [secret()]}),
        ],
    }


def test_no_secret_is_left_and_nothing_to_decrypt_one_with() -> None:
    found = without_secrets(state())
    assert CIPHERTEXT not in json.dumps(found)
    assert "secrets_providers" not in found
    assert [one["inputs"] for one in found["resources"][2:]] == [
        {"size": 2, "tags": [{"team": "ml"}]},
        {"size": 1, "password": "[secret]"},
        {"result": "[secret]"},
        {"data": {"a": ["[secret]"]}},
    ]


def test_resources_that_contain_only_secrets_are_left_out() -> None:
    assert [urn.rpartition("::")[2] for urn in secret_urns(state())] == ["login", "key"]


def test_a_difference_from_a_redacted_secret_is_no_drift() -> None:
    shown = Drifted("a", "server", "1", False, (Change("password", "[secret]", "real"), Change("size", "1", "2")))
    hidden = Drifted("a", "login", "1", False, (Change("key", "[secret]", "real"),))
    gone = Drifted("a", "gone", "1", True)
    assert known((shown, hidden, gone)) == (
        Drifted("a", "server", "1", False, (Change("size", "1", "2"),)),
        gone,
    )


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The state bucket in an AWS account."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        account = Account("123456789012", "arn", "us-east-1", session)
        monkeypatch.setattr(AwsStack, "account", account)
        client = session.client("s3")
        client.create_bucket(Bucket=backend_of("dev", account.id, account.region).bucket)
        yield client


def test_a_stack_without_a_state_is_not_deployed(bucket: Any) -> None:
    sentence = (
        r"^dev is not deployed \(s3://.* has no \.pulumi/stacks/airflow/dev\.json\): run `make deploy STACK=dev`$"
    )
    with pytest.raises(OperationError, match=sentence), redacted(AwsStack("dev", load_aws("dev"), print)):
        pytest.fail("there is nothing")


def test_the_state_is_read_without_a_key_and_deleted_afterwards(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [name] = [one["Name"] for one in bucket.list_buckets()["Buckets"]]
    checkpoint = {"version": 3, "checkpoint": {"latest": state()}}
    bucket.put_object(Bucket=name, Key=".pulumi/stacks/airflow/dev.json", Body=json.dumps(checkpoint).encode())
    folders: list[Path] = []

    def keep(stack: str, deployment: Any, folder: Path, *_: str) -> Any:
        folders.append(folder)
        assert CIPHERTEXT not in json.dumps(deployment)
        return stack

    monkeypatch.setattr(redacted_state, "local", keep)
    monkeypatch.setattr(redacted_state, "pulumi_command", lambda _: type("P", (), {"command": "pulumi"}))
    with redacted(AwsStack("dev", load_aws("dev"), print)) as found:
        assert (str(found[0]), len(found[1])) == ("dev", 2)
        assert folders[0].is_dir()
    assert not folders[0].exists()


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as the cloud, for Pulumi's engine."""
    if shutil.which("pulumi") is None:
        pytest.skip("not on PATH: pulumi")
    plugin = write_cloud_plugin(tmp_path, "cloud")
    file = tmp_path / "cloud.json"
    monkeypatch.setenv("PATH", f"{plugin.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CLOUD", str(file))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    file.write_text(
        json.dumps({"queue": {"size": 2, "tags": [{"team": "ml"}]}, "server": {"size": 1, "password": "x"}})
    )
    return file


def test_the_engine_compares_all_but_secrets(cloud: Path, tmp_path: Path) -> None:
    deployment = without_secrets(state())
    # The engine's version; no engine has written the state of this test.
    del deployment["manifest"]
    small = local("small", deployment, tmp_path, "pulumi", "us-east-1")
    assert known(drifted(small.refresh_report(secret_urns(state())))) == ()
    cloud.write_text(
        json.dumps({"queue": {"size": 5, "tags": [{"team": "ml"}]}, "server": {"size": 1, "password": "x"}})
    )
    [found] = known(drifted(small.refresh_report(secret_urns(state()))))
    assert (found.name, found.changes) == ("queue", (Change("size", "2", "5"),))
    cloud.write_text("{}")
    gone = known(drifted(small.refresh_report(secret_urns(state()))))
    assert [(one.name, one.deleted) for one in gone] == [("queue", True), ("server", True)]


def test_the_command_reports_skipped_resources(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nothing:
        def __enter__(self) -> Any:
            return self, ["one", "two"]

        def __exit__(self, *_: object) -> None:
            """Do nothing."""

        def refresh_report(self, left_out: list[str]) -> Any:
            assert left_out == ["one", "two"]
            return {"steps": []}

    monkeypatch.setattr(stacks, "redacted", lambda *_: Nothing())
    monkeypatch.setattr(sys, "argv", ["ops", "drift", "dev", "--without-secrets"])
    app.main()
    assert capsys.readouterr().out.splitlines() == [
        "2 resources that contain only secrets were not compared",
        "dev has no drift",
    ]
