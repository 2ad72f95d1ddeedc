import subprocess
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from pulumi.automation import PulumiCommand

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import load_aws
from ops.aws.account import Account
from ops.pulumi.backend import backend_of
from ops.pulumi.bootstrap import bootstrap
from ops.pulumi.pulumi_cli import pulumi_command
from ops.stacks.aws_stack import AwsStack
from tests.filled_settings import aws_settings
from tests.programs import put_on_path

FAKE_CLI = """#!/bin/sh
[ "$1" = version ] && { echo v3.272.0; exit; }
echo "$PULUMI_BACKEND_URL $AWS_REGION $*" >> "$CALLS"
echo "${PULUMI_K8S_DELETE_UNREACHABLE-unset}" > "$CALLS.unreachable"
[ "$2" = select ] && [ -n "$STACK_FILE" ] && echo "encryptedkey: abc" >> "$STACK_FILE"
[ "$1" != fail ]
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Pulumi CLI that records its calls."""
    put_on_path(monkeypatch, tmp_path / "bin" / "pulumi", FAKE_CLI)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.fixture
def project(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose stack file contains the key."""
    text = (REPOSITORY / "Pulumi.dev.yaml").read_text()
    (tmp_path / "Pulumi.dev.yaml").write_text(f"{text}encryptedkey: abc\n")
    monkeypatch.setattr("ops.pulumi.deployment.REPOSITORY", tmp_path)
    return tmp_path


def test_pulumi_works_with_the_stacks_state_key_and_region(account: Account, calls: Path, project: Path) -> None:
    bootstrap(account, backend_of("dev", account.id, account.region), lambda _: None)
    AwsStack("dev", aws_settings("dev"), lambda _: None).deployment.run("up")
    state = "s3://airflow-pulumi-state-123456789012-us-east-1?region=us-east-1 us-east-1"
    provider = "awskms://alias/airflow-dev-pulumi?region=us-east-1"
    assert calls.read_text().splitlines() == [
        f"{state} stack select --create --secrets-provider {provider} --stack dev",
        f"{state} up --stack dev",
    ]


def test_objects_are_forgotten_only_with_the_cluster_that_had_them(
    account: Account, calls: Path, project: Path
) -> None:
    bootstrap(account, backend_of("dev", account.id, account.region), lambda _: None)
    assert AwsStack("dev", aws_settings("dev"), lambda _: None).deployment
    assert calls.with_suffix(".unreachable").read_text() == "true\n"
    role = "arn:aws:iam::123456789012:role/x"
    account.client("eks").create_cluster(name="airflow-dev-cluster", roleArn=role, resourcesVpcConfig={})
    assert AwsStack("dev", aws_settings("dev"), lambda _: None).deployment
    assert calls.with_suffix(".unreachable").read_text() == "unset\n"


def test_without_the_key_in_the_stack_file_there_is_one_sentence(account: Account, calls: Path) -> None:
    bootstrap(account, backend_of("dev", account.id, account.region), lambda _: None)
    sentence = r"^Pulumi.dev.yaml lacks the stack's encrypted key: pull the commit that contains it, or run `make boot"
    with pytest.raises(OperationError, match=sentence):
        assert AwsStack("dev", aws_settings("dev"), pytest.fail).deployment
    assert not calls.exists()


def test_no_command_changes_the_stack_file_even_if_pulumi_does(
    account: Account, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap(account, backend_of("dev", account.id, account.region), lambda _: None)
    before = (project / "Pulumi.dev.yaml").read_bytes()
    monkeypatch.setenv("STACK_FILE", str(project / "Pulumi.dev.yaml"))
    assert AwsStack("dev", aws_settings("dev"), pytest.fail).deployment
    assert (project / "Pulumi.dev.yaml").read_bytes() == before


@pytest.mark.parametrize("stack", ["dev", "staging"])
def test_settings_with_placeholders_reach_no_account(stack: str) -> None:
    with pytest.raises(OperationError) as caught:
        assert AwsStack(stack, load_aws(stack), pytest.fail).account
    message = str(caught.value)
    assert message.startswith(
        f"Pulumi.{stack}.yaml contains placeholders: airflow:cluster.public_access_cidrs, 203.0.113.0/24: set the "
        "networks that you work from; airflow:dags.repository, https://github.com/example/airflow-on-kubernetes.git: "
    )
    assert ("airflow:release.signed_by: set the workflow" in message) is (stack == "staging")


def test_without_a_bootstrap_there_is_one_sentence(account: Account, calls: Path) -> None:
    sentence = (
        r"^s3://airflow-pulumi-state-123456789012-us-east-1 does not exist: run `make bootstrap STACK=dev` first$"
    )
    with pytest.raises(OperationError, match=sentence):
        assert AwsStack("dev", aws_settings("dev"), pytest.fail).deployment
    assert not calls.exists()


def test_another_account_stops_a_deployment_before_pulumi_starts(account: Account, calls: Path) -> None:
    elsewhere = aws_settings("dev").model_copy(update={"account_id": "1" * 12})
    with pytest.raises(OperationError, match="belongs to account 111111111111"):
        assert AwsStack("dev", elsewhere, pytest.fail).deployment
    assert not calls.exists()


def test_a_failure_of_pulumi_ends_in_one_sentence(account: Account, project: Path) -> None:
    bootstrap(account, backend_of("dev", account.id, account.region), lambda _: None)
    with pytest.raises(OperationError, match=r"^`pulumi fail` failed: see the output above$"):
        AwsStack("dev", aws_settings("dev"), lambda _: None).deployment.run("fail")


def test_the_cli_on_path_is_taken(calls: Path, tmp_path: Path) -> None:
    assert pulumi_command(pytest.fail, tmp_path / "none").command == "pulumi"


def test_a_cli_that_was_installed_before_is_taken(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert pulumi_command(pytest.fail, tmp_path).command == str(tmp_path / "bin" / "pulumi")


@pytest.mark.parametrize("error", [URLError("no route"), subprocess.CalledProcessError(1, "install.sh")])
def test_a_cli_that_cannot_be_installed_is_an_error_about_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(PulumiCommand, "_install_posix", fail)
    said: list[str] = []
    with pytest.raises(
        OperationError, match=r"cannot be installed from https://get.pulumi.com \(.*\): allow access to"
    ):
        pulumi_command(said.append, tmp_path)
    assert said == [f"installing the Pulumi CLI into {tmp_path.name}, from https://get.pulumi.com"]
