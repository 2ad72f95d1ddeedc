"""The order of the stacks: releases are built for the first, and come into each other one from the stack before it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import DagSettings, ReleaseSettings, StackSettings, load


def release_settings(stack: str, settings: StackSettings) -> ReleaseSettings:
    """Return how releases come into a stack.

    Raises:
        OperationError: None do.
    """
    if settings.release is None:
        raise OperationError(
            f"{stack} takes no releases: whoever may deploy it deploys what lies in the folder; set airflow:release in "
            f"Pulumi.{stack}.yaml"
        )
    return settings.release


def dag_settings(stack: str, settings: StackSettings) -> DagSettings:
    """Return the branch that a stack follows.

    Raises:
        OperationError: It follows none of a repository.
    """
    if settings.dags is None:
        raise OperationError(f"{stack} follows no branch: set airflow:dags in Pulumi.{stack}.yaml")
    return settings.dags


def previous(stack: str, folder: Path = REPOSITORY) -> str | None:
    """Return the stack from which releases come into a stack; None for the first.

    Raises:
        OperationError: No releases come into it.
        SettingsError: The stack's settings are wrong.
    """
    return release_settings(stack, load(stack, folder)).after


def way(stack: str, folder: Path = REPOSITORY) -> list[str]:
    """Return the stacks through which releases come into a stack, from the first to itself.

    Raises:
        OperationError: No releases come into it.
        SettingsError: Settings are wrong.
    """
    stacks = [stack]
    while before := previous(stacks[0], folder):  # the rules of the settings leave no circle
        stacks.insert(0, before)
    return stacks


def check_neighbours(source: str, target: str, folder: Path = REPOSITORY) -> None:
    """Refuse a promotion that leaves a stack out.

    Raises:
        OperationError: Releases come into the target from another stack, or are built for it.
        SettingsError: Settings are wrong.
    """
    stacks = way(target, folder)
    if len(stacks) == 1:
        raise OperationError(
            f"releases of {target} are built for it, not promoted into it: merge into its branch, then `make deploy "
            f"STACK={target}` and `make release STACK={target}`"
        )
    if source == stacks[-2]:
        return
    steps = stacks[stacks.index(source) :] if source in stacks[:-1] else stacks[-2:]
    commands = ", then ".join(f"`make promote FROM={one} TO={other}`" for one, other in pairwise(steps))
    raise OperationError(f"releases come into {target} from {stacks[-2]}, not from {source}: {commands}")
