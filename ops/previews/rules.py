"""Checks before a preview environment is created or updated."""

from collections.abc import Collection
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from infra import helm_values
from infra.database_connections import why_no_room
from infra.errors import OperationError
from infra.settings import ExistingClusterSettings, StackSettings
from infra.settings.models import Branch
from infra.settings.preview_rules import why_no_previews
from infra.settings.stack_summaries import StackSummaries

MOST_HOURS = 30 * 24


def check_base(stack: str, settings: StackSettings) -> None:
    """Refuse a stack that does not allow preview environments.

    Raises:
        OperationError: The stack does not allow them.
    """
    if reason := why_no_previews(stack, settings):
        raise OperationError(reason)


def check_branch(branch: str, stacks: StackSummaries) -> None:
    """Refuse an invalid branch name, and a branch that a stack follows: that stack is its environment.

    Raises:
        OperationError: The branch is refused.
    """
    try:
        TypeAdapter[str](Branch).validate_python(branch)
    except ValidationError:
        raise OperationError(
            f"{branch!r} is not a valid branch name: use letters and digits, separated by . _ - or /"
        ) from None
    for name, stack in stacks.items():
        if branch == (stack.source.branch if stack.source else name):
            raise OperationError(
                f"{branch} is the branch of the stack {name}, which is its environment: choose the branch of a change"
            )


def check_room(base: str, stack: str, present: Collection[str], most: int) -> None:
    """Refuse more environments than the base's settings allow.

    Raises:
        OperationError: The limit is reached.
    """
    if stack not in present and len(present) >= most:
        raise OperationError(
            f"{base} has {len(present)} preview environments, and its max_previews is {most}: remove one that `make "
            f"preview-envs STACK={base}` lists, or the expired ones with `make preview-env-gc STACK={base}`"
        )


def check_connections(base: str, settings: StackSettings, stack: str, present: Collection[str]) -> None:
    """Refuse an environment for which the base's database server on AWS has too few connections.

    Raises:
        OperationError: It has too few.
    """
    if stack in present or isinstance(settings, ExistingClusterSettings):
        return
    values = helm_values.stack_values(base)
    if reason := why_no_room(base, settings.database.instance_class, values, sorted(present), stack):
        raise OperationError(reason)


def expiry(now: datetime, hours: float, before: datetime | None) -> datetime:
    """Return when an environment expires, never earlier than before.

    Raises:
        OperationError: The hours are out of range.
    """
    if not 0 < hours <= MOST_HOURS:
        raise OperationError(f"HOURS={hours:g} is out of range: choose more than 0 and at most {MOST_HOURS}")
    after = (now + timedelta(hours=hours)).replace(microsecond=0)
    return max(after, before) if before else after
