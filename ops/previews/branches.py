"""Check that the branch of a preview environment exists."""

import os
import subprocess

from infra.documents import REPOSITORY
from infra.errors import OperationError

TIMEOUT_SECONDS = 30


def check_exists(branch: str, repository: str | None) -> None:
    """Check that a branch exists in a repository, or in this clone if none is given.

    Raises:
        OperationError: The branch does not exist, or the repository cannot be read.
    """
    if repository is None:
        if _git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").returncode != 0:
            raise OperationError(f"this clone has no branch {branch}: fetch it, or check its name with `git branch`")
        return
    listed = _git("ls-remote", repository, f"refs/heads/{branch}")
    if listed.returncode != 0:
        reason = (listed.stderr.strip().splitlines() or ["no answer"])[-1]
        raise OperationError(f"the branches of {repository} cannot be read ({reason}): check your access to it")
    if not listed.stdout.strip():
        raise OperationError(f"{repository} has no branch {branch}: push it, or correct its name")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise OperationError(
            f"`git {arguments[0]}` did not finish within {TIMEOUT_SECONDS} s: check the network"
        ) from None
