"""The DAGs of a stack: which commit runs, how another gets there, and the key by which they are read."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.existing_cluster_names import GIT_REPOSITORY
from infra.settings import DagSettings
from ops.airflow.installation import Installation
from ops.console import Echo
from ops.kubernetes.kubectl import answer_of, kubectl

SECRET = "dags-git"  # noqa: S105 - its name
# Where the chart mounts the DAGs, and the link that git-sync moves.
LINK = "/opt/airflow/dags/repo"
GIT_SECONDS = 15
# What servers take as the name of a token's user, whoever that is.
ANY_USER = "git"

OPENSSH_MAGIC = b"openssh-key-v1\0"
NO_CIPHER = b"none"


@dataclass(frozen=True)
class Revision:
    """Which commit runs, and which is the newest of the branch; None where it is unknown."""

    running: str | None
    head: str | None

    def __str__(self) -> str:
        """Return a sentence."""
        if self.running is None:
            return "unknown: no dag-processor answers"
        if self.head is None:
            return f"{self.running[:12]}; the branch cannot be asked from here"
        if self.running == self.head:
            return f"{self.running[:12]}, the newest of the branch"
        return f"{self.running[:12]}, while the branch is at {self.head[:12]}"


def revision(installation: Installation) -> Revision:
    """Return which commit the dag-processor has, and which the branch has."""
    pods = answer_of(
        installation.cluster,
        *("--namespace", installation.namespace, "get", "pods", "--selector=component=dag-processor"),
        *("--field-selector=status.phase=Running", "--output=name"),
    )
    running = None
    if pods:
        link = answer_of(
            installation.cluster,
            *("--namespace", installation.namespace, "exec", pods.splitlines()[0], "--container=dag-processor"),
            *("--", "readlink", LINK),
        )
        running = link.rpartition("/")[2] if link else None
    return Revision(running, _head(installation))


def _head(installation: Installation) -> str | None:
    branch = f"refs/heads/{installation.diagnosis.branch}"
    if installation.git_server:
        return answer_of(
            installation.cluster,
            *("--namespace", installation.namespaces[0], "exec", installation.git_server, "--"),
            *("git", "--git-dir", GIT_REPOSITORY, "rev-parse", branch),
        )
    command = ["git", "ls-remote", installation.diagnosis.repository, branch]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        listed = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=GIT_SECONDS, env=environment
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return listed.stdout.split()[0] if listed.stdout else None


def push(installation: Installation, echo: Echo, revision: str = "HEAD") -> None:
    """Push this clone's HEAD, or another revision, to the branch that a stack in an existing cluster follows.

    Raises:
        OperationError: This is no clone, or the Git server takes no push.
    """
    if installation.git_server is None:
        raise OperationError(
            f"{installation.stack} follows {installation.diagnosis.branch} of {installation.diagnosis.repository}: "
            "push there with `git push`"
        )
    commit = _git("log", "-1", "--format=%h %s", revision, "--")
    if revision == "HEAD" and _git("status", "--porcelain"):
        echo("uncommitted changes are not included: commit what is to run")
    branch = f"refs/heads/{installation.diagnosis.branch}"
    with kubectl(installation.cluster) as command:
        program = [*command, "--namespace", installation.namespaces[0], "exec", "-i", installation.git_server, "--"]
        remote = remote_helper([*program, "git"])
        _git("-c", "protocol.ext.allow=always", "push", "--quiet", "--force", remote, f"{revision}:{branch}")
    echo(f"{commit}: pushed, and live within seconds")


def remote_helper(program: list[str]) -> str:
    """Return the address of a repository behind a program, see gitremote-ext(1); `%s` is what Git wants of it."""
    words = [word.replace("%", "%%").replace(" ", "% ") for word in program]
    return f"ext::{' '.join(words)} %s {GIT_REPOSITORY}"


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], check=False, capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise OperationError(f"`git {arguments[-1] if len(arguments) < 3 else arguments[2]}` failed: {last}")
    return result.stdout.strip()


def put_key(installation: Installation, settings: DagSettings, key: str, user: str, echo: Echo) -> None:
    """Keep the key of the DAGs' repository in the cluster.

    Raises:
        OperationError: The stack needs none, it is of no use, or the cluster has no place for it yet.
    """
    content = key_secret(settings.credentials, key, user)
    if installation.namespace not in installation.cluster.namespaces():
        raise OperationError(
            f"the cluster has no namespace {installation.namespace} yet: run `make deploy STACK={installation.stack}`, "
            "which stops for want of the key, then this again"
        )
    installation.cluster.put_secret(installation.namespace, SECRET, content)
    echo(
        f"the key of {settings.repository} is in the Secret {SECRET} of {installation.namespace}: pods that start "
        "from now on take it"
    )


def key_secret(credentials: str, key: str, user: str = ANY_USER) -> Mapping[str, str]:
    """Return what the Secret holds, as git-sync takes it.

    Raises:
        OperationError: The key is of no use.
    """
    if credentials == "ssh":
        _check_ssh_key(key)
        return {"gitSshKey": key.strip() + "\n"}
    if credentials == "token":
        token = key.strip()
        if not token or len(token.split()) != 1:
            raise OperationError("that is no token: give it alone on standard input")
        # Under both names, for the chart insists on both.
        return {
            f"{prefix}_{name}": value
            for prefix in ("GITSYNC", "GIT_SYNC")
            for name, value in (("USERNAME", user), ("PASSWORD", token))
        }
    raise OperationError(
        "the repository is read without a key: set credentials under airflow:dags to ssh or token first"
    )


def _check_ssh_key(key: str) -> None:
    lines = key.strip().splitlines()
    if not lines or not (lines[0].startswith("-----BEGIN ") and lines[0].endswith("PRIVATE KEY-----")):
        raise OperationError("that is no private SSH key: give the file that `ssh-keygen` wrote, without .pub")
    try:
        content = base64.b64decode("".join(lines[1:-1]))
    except ValueError:
        content = b""
    cipher = content.removeprefix(OPENSSH_MAGIC)[4 : 4 + len(NO_CIPHER)] if content.startswith(OPENSSH_MAGIC) else None
    if "ENCRYPTED" in key or cipher not in (None, NO_CIPHER):
        raise OperationError(
            "the SSH key has a passphrase, which git-sync cannot type: make one without, for this alone"
        )
