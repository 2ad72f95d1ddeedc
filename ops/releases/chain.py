"""The promotion chain: releases are built for the first stack, and promoted to each later one from the stack before."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import DagSettings, ReleaseSettings, StackSettings, load


def release_settings(stack: str, settings: StackSettings) -> ReleaseSettings:
    """Return a stack's release settings.

    Raises:
        OperationError: Releases are not enabled for the stack.
    """
    if settings.release is None:
        raise OperationError(f"releases are not enabled for {stack}: set airflow:release in Pulumi.{stack}.yaml")
    return settings.release


def dag_settings(stack: str, settings: StackSettings) -> DagSettings:
    """Return the settings of the repository and branch that a stack follows.

    Raises:
        OperationError: The stack does not follow a branch.
    """
    if settings.dags is None:
        raise OperationError(f"{stack} follows no branch: set airflow:dags in Pulumi.{stack}.yaml")
    return settings.dags


def previous(stack: str, folder: Path = REPOSITORY) -> str | None:
    """Return the stack from which releases are promoted to a stack; None for the first stack.

    Raises:
        OperationError: Releases are not enabled for the stack.
        SettingsError: The settings are invalid.
    """
    return release_settings(stack, load(stack, folder)).after


def promotion_chain(stack: str, folder: Path = REPOSITORY) -> list[str]:
    """Return the promotion chain of a stack, from the first stack to the stack itself.

    Raises:
        OperationError: Releases are not enabled for the stack.
        SettingsError: The settings are invalid.
    """
    stacks = [stack]
    while before := previous(stacks[0], folder):  # the settings rules exclude cycles
        stacks.insert(0, before)
    return stacks


def check_adjacent(source: str, target: str, folder: Path = REPOSITORY) -> None:
    """Refuse a promotion that skips a stack.

    Raises:
        OperationError: Releases are promoted to the target from another stack, or are built for it.
        SettingsError: The settings are invalid.
    """
    stacks = promotion_chain(target, folder)
    if len(stacks) == 1:
        raise OperationError(
            f"{target} is the first stack of the chain, nothing is promoted to it: merge into its branch, then run "
            f"`make deploy STACK={target}` and `make release STACK={target}`"
        )
    if source == stacks[-2]:
        return
    steps = stacks[stacks.index(source) :] if source in stacks[:-1] else stacks[-2:]
    commands = ", then ".join(f"`make promote FROM={one} TO={other}`" for one, other in pairwise(steps))
    raise OperationError(f"releases are promoted to {target} from {stacks[-2]}, not from {source}: run {commands}")
