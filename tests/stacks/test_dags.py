import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.errors import OperationError
from ops.airflow import dags
from ops.airflow.dags import Revision, key_secret, remote_helper
from tests.kubernetes_api import kubernetes_api
from tests.programs import write_program


@pytest.fixture
def ssh_key(tmp_path: Path) -> str:
    return openssh(tmp_path, "")


def openssh(folder: Path, passphrase: str) -> str:
    file = folder / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(file)]
    subprocess.run(command, check=True)
    return file.read_text()


def test_an_ssh_key_is_stored_under_the_name_that_the_chart_reads(ssh_key: str) -> None:
    assert key_secret("ssh", f"\n{ssh_key}\n\n") == {"gitSshKey": ssh_key}


def test_a_token_is_stored_under_both_names_that_the_chart_requires() -> None:
    assert key_secret("token", "abc\n", "me") == {
        "GITSYNC_USERNAME": "me",
        "GITSYNC_PASSWORD": "abc",
        "GIT_SYNC_USERNAME": "me",
        "GIT_SYNC_PASSWORD": "abc",
    }


@pytest.mark.parametrize("text", ["", "ssh-ed25519 AAAA me@here", "abc"])
def test_an_invalid_private_key_is_refused(text: str) -> None:
    with pytest.raises(OperationError, match=r"^not a private SSH key: pass the file that `ssh-keygen` wrote"):
        key_secret("ssh", text)


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match=r"^the SSH key has a passphrase, which git-sync does not"):
        key_secret("ssh", openssh(tmp_path, "secret"))


@pytest.mark.parametrize("text", ["", "two words", "-----BEGIN\nkey"])
def test_an_invalid_token_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(OperationError, match=r"^not a valid token: pass only the token"):
        key_secret("token", text)


def test_an_open_repository_takes_no_key() -> None:
    with pytest.raises(OperationError, match=r"^the repository is read without a key: first set creden"):
        key_secret("none", "abc")


def test_a_push_works_through_a_program_with_spaces_in_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git itself parses the address. The program is a shell script in a folder with a space in its name."""
    bare = tmp_path / "dags.git"
    work = tmp_path / "work"
    for command in (
        ["git", "init", "-q", "--bare", str(bare)],
        ["git", "init", "-q", str(work)],
        [
            "git",
            "-C",
            str(work),
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ],
    ):
        subprocess.run(command, check=True)
    program = write_program(tmp_path / "a folder" / "100%", '#!/bin/sh\nshift\nexec "$@"\n')
    monkeypatch.setattr(dags, "GIT_REPOSITORY", str(bare))
    address = remote_helper([str(program), "--", "git"])
    push = ["git", "-C", str(work), "-c", "protocol.ext.allow=always", "push", "-q", address, "HEAD:refs/heads/local"]
    subprocess.run(push, check=True)
    heads = [
        subprocess.run(["git", "-C", str(place), "rev-parse", ref], check=True, capture_output=True, text=True).stdout
        for place, ref in ((bare, "local"), (work, "HEAD"))
    ]
    assert heads[0] == heads[1]


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        (Revision("a" * 40, "a" * 40), "aaaaaaaaaaaa, the latest of the branch"),
        (Revision("a" * 40, "b" * 40), "aaaaaaaaaaaa, but the branch is at bbbbbbbbbbbb"),
        (Revision("a" * 40, None), "aaaaaaaaaaaa; the branch cannot be read from this machine"),
        (Revision(None, "b" * 40), "unknown: no dag-processor responds"),
    ],
)
def test_the_running_commit_is_compared_with_the_branch(revision: Revision, sentence: str) -> None:
    assert str(revision) == sentence


def test_a_dag_has_an_account_once_it_is_deployed() -> None:
    with kubernetes_api() as api:
        stack: Any = SimpleNamespace(cluster=api.cluster, tasks_namespace="airflow-tasks")
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "dag-flight-scores"}}
        api.cluster.create("airflow-tasks", account)
        assert dags.has_account(stack, "flight_scores")
        assert not dags.has_account(stack, "churn")
