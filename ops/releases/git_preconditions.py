"""Checks of the clone against its remote. Each function returns why it refuses, or None."""

from __future__ import annotations

from ops.releases.clone import Clone

SHOWN = 3


def uncommitted(clone: Clone) -> str | None:
    """Check that there are no uncommitted changes."""
    files = clone.dirty()
    if not files:
        return None
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return (
        f"there are uncommitted changes ({', '.join(files[:SHOWN])}{more}): commit them, or stash them with `git stash "
        "--include-untracked`"
    )


def behind(clone: Clone, branch: str | None, remote_head: str | None) -> str | None:
    """Check that the checked-out branch contains the remote's. Branches that the remote lacks pass."""
    if branch is None or remote_head is None or clone.is_ancestor(remote_head, "HEAD"):
        return None
    missing = len(clone.between("HEAD", remote_head))
    if clone.is_ancestor("HEAD", remote_head):
        pull = f"git pull --ff-only {clone.remote} {branch}"
        return f"{branch} is {commits(missing)} behind {clone.remote}/{branch}: run `{pull}`"
    own = len(clone.between(remote_head, "HEAD"))
    return (
        f"{branch} and {clone.remote}/{branch} have diverged ({commits(own)} only local, {commits(missing)} only "
        f"remote): run `git pull --rebase {clone.remote} {branch}`, or discard the local commits with `git reset "
        f"--keep {remote_head[:12]}`"
    )


def not_at_branch_head(
    clone: Clone, stack: str, branch: str, remote_head: str | None, *, takes_pushes: bool
) -> str | None:
    """Check that the stack's branch is checked out, without changes, at the remote's commit.

    Args:
        clone: The clone.
        stack: The stack.
        branch: The branch that the stack follows.
        remote_head: The commit of that branch in the remote; None if the remote lacks it.
        takes_pushes: Whether commits are pushed to the branch; otherwise releases are promoted to it.
    """
    here = clone.branch()
    if here != branch:
        create = "" if remote_head or clone.has_branch(branch) else "-b "
        return (
            f"{f'the branch {here}' if here else 'a detached HEAD'} is checked out, but {stack} follows "
            f"{branch}: run `git checkout {create}{branch}`"
        )
    if sentence := uncommitted(clone):
        return sentence
    if remote_head is None:
        return f"{clone.remote} has no branch {branch}: run `git push {clone.remote} {branch}`"
    if sentence := behind(clone, branch, remote_head):
        return sentence
    if clone.head() != remote_head:
        push = f"run `git push {clone.remote} {branch}`" if takes_pushes else "push to the first branch of the chain"
        return (
            f"{branch} has {commits(len(clone.between(remote_head, 'HEAD')))} that {clone.remote} does not have: "
            f"{push}, or return to {clone.remote}/{branch} with `git reset --keep {remote_head[:12]}`"
        )
    return None


def commits(count: int) -> str:
    """Return a number of commits, such as `2 commits`."""
    return f"{count} commit{'s' * (count != 1)}"
