import os
import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import pytest

from infra.settings import load_aws
from ops.aws.account import Account
from ops.cli import app as command
from ops.cli import stacks
from ops.pulumi.backend import backend_of
from ops.pulumi.bootstrap import bootstrap
from ops.stacks.aws_stack import AwsStack
from ops.stacks.platform_stack import PlatformStack
from tests.filled_settings import filled, load_filled


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ops", *arguments])
    command.main()


@pytest.mark.parametrize(
    "name",
    [
        *("stack", "doctor", "bootstrap", "preview", "deploy", "drift", "destroy", "unlock", "sweep"),
        *("kubeconfig", "status", "smoke", "ui", "sync", "dags-key", "github-roles"),
    ],
)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run(monkeypatch, name, "--help")
    assert len(capsys.readouterr().out.splitlines()) > 4


@pytest.fixture
def without_placeholders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stacks.resolve.load", load_filled)
    monkeypatch.setattr("ops.stacks.resolve.load_aws", lambda stack: filled(load_aws(stack)))


@pytest.mark.usefixtures("without_placeholders")
def test_bootstrap_prints_the_commands_that_follow(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(AwsStack, "bootstrap", lambda _: None)
    run(monkeypatch, "bootstrap", "dev")
    first, *commands = capsys.readouterr().out.splitlines()
    assert first == f"account {account.id} is ready for dev, whose encrypted key is in Pulumi.dev.yaml; now run:"
    assert commands[-3:] == [
        "  git push --set-upstream origin dev",
        "  make images STACK=dev",
        "  make deploy STACK=dev",
    ]


@pytest.mark.parametrize(("has_cluster", "lines"), [(False, 1), (True, 0)])
def test_a_preview_before_the_first_deployment_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str], has_cluster: bool, lines: int
) -> None:
    stacks.point_out_missing_cluster(cast(PlatformStack, SimpleNamespace(name="dev", has_cluster=has_cluster)))
    assert (
        capsys.readouterr().out.count("dev has no cluster yet: previews lack the objects of Airflow's chart") == lines
    )


@pytest.mark.usefixtures("without_placeholders")
def test_what_belongs_to_the_account_is_no_leftover_of_a_stack(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap(account, backend_of("dev", account.id, account.region), lambda _: None)
    run(monkeypatch, "sweep", "dev")
    assert "nothing of dev is left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bootstrap", "nope"], r"^error: Pulumi.nope.yaml does not exist"),
        (
            ["preview", "dev"],
            r"^error: s3://airflow-pulumi-state-123456789012-us-east-1 does not exist: run `make bootstrap",
        ),
        (["destroy", "prod", "--yes"], r"^error: nothing was destroyed: type prod at the prompt, or set CONFIRM=prod$"),
        (["destroy", "dev"], r"^error: nothing was destroyed: type dev at the prompt, or set YES=1 or CONFIRM=dev$"),
        (["stack", "prod"], r"^error: Pulumi.prod.yaml already exists"),
        (
            ["bootstrap", "local"],
            r"^error: local runs on an existing cluster and has no AWS account: choose a stack on AWS$",
        ),
        (["dags-key", "local"], r"^error: local has its own Git server, which needs no key: see `make sync"),
        (
            ["github-roles", "local"],
            r"^error: local runs on an existing cluster and has no AWS account: choose a stack on AWS$",
        ),
        (
            ["github-roles", "dev"],
            r"^error: s3://airflow-pulumi-state-123456789012-us-east-1 does not exist: run `make bootstrap",
        ),
        (["kubeconfig", "local"], r"^error: your kubeconfig already contains the cluster of local: select it"),
        (["destroy", "local"], r"^error: nothing was destroyed: type local at the prompt"),
    ],
)
@pytest.mark.usefixtures("account", "without_placeholders")
def test_a_mistake_of_the_user_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit, match=sentence):
        run(monkeypatch, *arguments)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ops de", ["deploy", "destroy"]),
        ("ops deploy s", ["staging"]),
        ("ops deploy dev --r", ["--refresh"]),
    ],
)
def test_the_shell_completes_commands_stacks_and_options(words: str, completed: list[str]) -> None:
    variables = {"_OPS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    shown = subprocess.run(
        [sys.executable, "-m", "ops"], env=os.environ | variables, check=True, capture_output=True, text=True
    )
    assert shown.stdout.split() == completed
