"""See that a branch exists, where an environment will look for it."""

import os
import subprocess

from infra.documents import REPOSITORY
from infra.errors import OperationError

SECONDS = 30


def check_exists(branch: str, repository: str | None) -> None:
    """See that a branch is in a repository; where none is given, in this clone.

    Raises:
        OperationError: It is not, or the repository cannot be asked.
    """
    if repository is None:
        if _git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").returncode != 0:
            raise OperationError(f"this clone has no branch {branch}: fetch it, or see `git branch` for its name")
        return
    listed = _git("ls-remote", repository, f"refs/heads/{branch}")
    if listed.returncode != 0:
        reason = (listed.stderr.strip().splitlines() or ["no answer"])[-1]
        raise OperationError(f"{repository} cannot be asked for its branches ({reason}): see that you may read it")
    if not listed.stdout.strip():
        raise OperationError(f"{repository} has no branch {branch}: push it, or correct its name")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        raise OperationError(f"`git {arguments[0]}` does not end within {SECONDS} s: see the network") from None
