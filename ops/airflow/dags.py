"""The DAGs of a stack: the running commit, pushing another one, and the key of the repository."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from infra.airflow_names import COMPONENT_LABEL, DAGS_LINK, DAGS_SECRET
from infra.dag_declarations import account_name
from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.existing_cluster_names import GIT_REPOSITORY
from infra.settings import DagSettings
from ops.console import Echo
from ops.kubernetes.cluster import ConflictError
from ops.kubernetes.kubectl import answer_of, kubectl
from ops.stacks.stack import Stack

GIT_SECONDS = 15
# Git servers ignore the user name of a token.
ANY_USER = "git"

OPENSSH_MAGIC = b"openssh-key-v1\0"
NO_CIPHER = b"none"


@dataclass(frozen=True)
class Revision:
    """The running commit and the branch's latest commit; None if unknown."""

    running: str | None
    head: str | None

    def __str__(self) -> str:
        """Return the revision for messages."""
        if self.running is None:
            return "unknown: no dag-processor responds"
        if self.head is None:
            return f"{self.running[:12]}; the branch cannot be read from this machine"
        if self.running == self.head:
            return f"{self.running[:12]}, the latest of the branch"
        return f"{self.running[:12]}, but the branch is at {self.head[:12]}"


def revision(stack: Stack) -> Revision:
    """Return the commit of the dag-processor and that of the branch."""
    pods = answer_of(
        stack.cluster,
        *("--namespace", stack.namespace, "get", "pods", f"--selector={COMPONENT_LABEL}=dag-processor"),
        *("--field-selector=status.phase=Running", "--output=name"),
    )
    running = None
    if pods:
        link = answer_of(
            stack.cluster,
            *("--namespace", stack.namespace, "exec", pods.splitlines()[0], "--container=dag-processor"),
            *("--", "readlink", DAGS_LINK),
        )
        running = link.rpartition("/")[2] if link else None
    return Revision(running, _head(stack))


def _head(stack: Stack) -> str | None:
    branch = f"refs/heads/{stack.diagnosis.branch}"
    if stack.git_server:
        return answer_of(
            stack.cluster,
            *("--namespace", stack.server_namespaces[0], "exec", stack.git_server, "--"),
            *("git", "--git-dir", GIT_REPOSITORY, "rev-parse", branch),
        )
    command = ["git", "ls-remote", stack.diagnosis.repository, branch]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        listed = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=GIT_SECONDS, env=environment
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return listed.stdout.split()[0] if listed.stdout else None


def has_account(stack: Stack, dag_id: str) -> bool:
    """Return whether a DAG has its service account, which the deployment after its push creates."""
    return stack.cluster.get("ServiceAccount", account_name(dag_id), stack.tasks_namespace) is not None


def push(stack: Stack, echo: Echo, revision: str = "HEAD") -> None:
    """Push this clone's HEAD, or another revision, to the branch that a stack on an existing cluster follows.

    Raises:
        OperationError: The stack has no Git server, the folder is not a clone, or the push failed.
    """
    if stack.git_server is None:
        raise OperationError(
            f"{stack.name} follows {stack.diagnosis.branch} of {stack.diagnosis.repository}: push to it with `git push`"
        )
    commit = _git("log", "-1", "--format=%h %s", revision, "--")
    if revision == "HEAD" and _git("status", "--porcelain"):
        echo("uncommitted changes are not included: commit what you want to run")
    branch = f"refs/heads/{stack.diagnosis.branch}"
    with kubectl(stack.cluster) as command:
        program = [*command, "--namespace", stack.server_namespaces[0], "exec", "-i", stack.git_server, "--"]
        remote = remote_helper([*program, "git"])
        _git("-c", "protocol.ext.allow=always", "push", "--quiet", "--force", remote, f"{revision}:{branch}")
    echo(f"{commit}: pushed, runs within seconds")


def remote_helper(program: list[str]) -> str:
    """Return the address of a repository behind a program, see git-remote-ext(1); `%s` is the Git service."""
    words = [word.replace("%", "%%").replace(" ", "% ") for word in program]
    return f"ext::{' '.join(words)} %s {GIT_REPOSITORY}"


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], check=False, capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise OperationError(f"`git {arguments[-1] if len(arguments) < 3 else arguments[2]}` failed: {last}")
    return result.stdout.strip()


def put_key(stack: Stack, settings: DagSettings, key: str, user: str, echo: Echo) -> None:
    """Store the key of the DAG repository in the cluster.

    Raises:
        OperationError: The repository needs no key, the key is invalid, or the namespace does not exist yet.
    """
    content = key_secret(settings.credentials, key, user)
    if stack.namespace not in stack.cluster.namespaces():
        raise OperationError(
            f"the cluster has no namespace {stack.namespace} yet: run `make deploy STACK={stack.name}`; "
            "it will fail because the key is missing; then rerun this command"
        )
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": DAGS_SECRET}, "stringData": dict(content)}
    try:
        stack.cluster.create(stack.namespace, secret)
    except ConflictError:
        stack.cluster.replace(stack.namespace, secret)
    echo(f"stored the key of {settings.repository} in the Secret {DAGS_SECRET} of {stack.namespace}: new pods use it")


def key_secret(credentials: str, key: str, user: str = ANY_USER) -> Mapping[str, str]:
    """Return the data of the Secret for git-sync.

    Raises:
        OperationError: The key is invalid, or the repository needs none.
    """
    if credentials == "ssh":
        _check_ssh_key(key)
        return {"gitSshKey": key.strip() + "\n"}
    if credentials == "token":
        token = key.strip()
        if not token or len(token.split()) != 1:
            raise OperationError("not a valid token: pass only the token, on standard input or as KEY=<file>")
        # The chart requires both names.
        return {
            f"{prefix}_{name}": value
            for prefix in ("GITSYNC", "GIT_SYNC")
            for name, value in (("USERNAME", user), ("PASSWORD", token))
        }
    raise OperationError(
        "the repository is read without a key: first set credentials under airflow:dags to ssh or token"
    )


def _check_ssh_key(key: str) -> None:
    lines = key.strip().splitlines()
    if not lines or not (lines[0].startswith("-----BEGIN ") and lines[0].endswith("PRIVATE KEY-----")):
        raise OperationError("not a private SSH key: pass the file that `ssh-keygen` wrote without the suffix .pub")
    try:
        content = base64.b64decode("".join(lines[1:-1]))
    except ValueError:
        content = b""
    cipher = content.removeprefix(OPENSSH_MAGIC)[4 : 4 + len(NO_CIPHER)] if content.startswith(OPENSSH_MAGIC) else None
    if "ENCRYPTED" in key or cipher not in (None, NO_CIPHER):
        raise OperationError(
            "the SSH key has a passphrase, which git-sync does not support: create a separate key without one"
        )
