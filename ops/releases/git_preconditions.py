"""How a clone stands to its remote; each function returns a sentence where that is in the way, and None where not."""

from __future__ import annotations

from ops.releases.clone import Clone

SHOWN = 3


def uncommitted(clone: Clone) -> str | None:
    """See that the files are as the commit has them."""
    files = clone.dirty()
    if not files:
        return None
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return (
        f"files are not as the commit has them ({', '.join(files[:SHOWN])}{more}): commit them, or put them away with "
        "`git stash --include-untracked`"
    )


def behind(clone: Clone, branch: str | None, remote_head: str | None) -> str | None:
    """See that the branch that is checked out has everything that the remote's has; one that is only here is let be."""
    if branch is None or remote_head is None or clone.is_ancestor(remote_head, "HEAD"):
        return None
    missing = len(clone.between("HEAD", remote_head))
    if clone.is_ancestor("HEAD", remote_head):
        return f"{branch} is {commits(missing)} behind {clone.remote}'s: `git pull --ff-only {clone.remote} {branch}`"
    own = len(clone.between(remote_head, "HEAD"))
    return (
        f"{branch} and {clone.remote}'s have diverged ({commits(own)} only here, {commits(missing)} only there): "
        f"`git pull --rebase {clone.remote} {branch}`, or give up what is only here with `git reset --keep "
        f"{remote_head[:12]}`"
    )


def elsewhere(clone: Clone, stack: str, branch: str, remote_head: str | None) -> str | None:
    """See that a stack's own branch is checked out, clean, and where the remote has it."""
    here = clone.branch()
    if here != branch:
        return (
            f"{f'the branch {here}' if here else 'a commit without a branch'} is checked out, and {stack} follows "
            f"{branch}: `git checkout {branch}`"
        )
    if remote_head is None:
        return f"{clone.remote} has no branch {branch}: `git push {clone.remote} {branch}`"
    if sentence := uncommitted(clone) or behind(clone, branch, remote_head):
        return sentence
    if clone.head() != remote_head:
        return (
            f"{branch} has {commits(len(clone.between(remote_head, 'HEAD')))} that {clone.remote} has not: push them "
            f"where they belong, or go where {clone.remote} is with `git reset --keep {remote_head[:12]}`"
        )
    return None


def commits(count: int) -> str:
    """Return a number of commits in words."""
    return f"{count} commit{'s' * (count != 1)}"
