import os
import subprocess
import sys

import pytest

from ops.aws.account import Account
from ops.cli import app as command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ops", *arguments])
    command.main()


@pytest.mark.parametrize(
    "name",
    [
        *("stack", "bootstrap", "preview", "deploy", "drift", "destroy", "unlock", "sweep"),
        *("kubeconfig", "status", "smoke", "ui", "sync", "dags-key"),
    ],
)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run(monkeypatch, name, "--help")
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_bootstrap_and_sweep_work_together(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "bootstrap", "dev")
    run(monkeypatch, "sweep", "dev")  # the bucket and the key of bootstrap are not leftovers
    printed = capsys.readouterr().out
    assert f"account {account.id} is ready for `make deploy STACK=dev`" in printed
    assert "nothing of dev is left" in printed


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
        (["kubeconfig", "local"], r"^error: your kubeconfig already contains the cluster of local: select it"),
        (["destroy", "local"], r"^error: nothing was destroyed: type local at the prompt"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence(
    account: Account, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
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
