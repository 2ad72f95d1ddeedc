"""The commands that lead from `make bootstrap` to a stack's first deployment."""

from __future__ import annotations

from collections.abc import Iterator

from infra.settings import StackSettings
from ops.releases.chain import dag_settings
from ops.releases.clone import Clone


def next_commands(clone: Clone, stack: str, settings: StackSettings, first_branch: str) -> Iterator[str]:
    """Yield the commands.

    Args:
        clone: The clone.
        stack: The bootstrapped stack.
        settings: Its settings.
        first_branch: The branch of the first stack of its promotion chain, where all settings are committed.
    """
    yield from _commit(clone, stack, first_branch)
    if settings.release and (before := settings.release.after):
        branch = dag_settings(stack, settings).branch
        yield f"make promote FROM={before} TO={stack}   # when {before} runs this commit and the gates of {stack} pass"
        yield f"git fetch {clone.remote} && git checkout {branch} && git pull --ff-only"
    else:
        yield f"make images STACK={stack}"
    yield f"make deploy STACK={stack}"


def _commit(clone: Clone, stack: str, branch: str) -> Iterator[str]:
    if clone.branch() != branch:
        yield f"git checkout {'' if clone.has_branch(branch) else '-b '}{branch}"
    if files := [file for file in clone.dirty() if file.startswith("Pulumi.")]:
        yield f'git add {" ".join(files)} && git commit --message "Configure {stack}"'
    yield f"git push --set-upstream {clone.remote} {branch}"
