"""What is refused before anything begins."""

from collections.abc import Collection
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from infra.errors import OperationError
from infra.settings import StackSettings
from infra.settings.models import Branch
from infra.settings.preview_rules import why_no_previews
from infra.settings.stack_summaries import StackSummaries

MOST_HOURS = 30 * 24


def check_base(stack: str, settings: StackSettings) -> None:
    """Refuse a stack beside which nobody may try things.

    Raises:
        OperationError: It is one.
    """
    if reason := why_no_previews(stack, settings):
        raise OperationError(reason)


def check_branch(branch: str, stacks: StackSummaries) -> None:
    """Refuse what is no branch's name, and a branch that a stack follows: that stack is its environment.

    Raises:
        OperationError: It is one.
    """
    try:
        TypeAdapter[str](Branch).validate_python(branch)
    except ValidationError:
        raise OperationError(
            f"{branch!r} is no name of a branch as is used here: take letters, digits, and . _ - / between them"
        ) from None
    for name, stack in stacks.items():
        if branch == (stack.source.branch if stack.source else name):
            raise OperationError(
                f"{branch} is the branch of the stack {name}, which is its environment: give the branch of a change"
            )


def check_room(base: str, stack: str, present: Collection[str], most: int) -> None:
    """Refuse one environment more than the base's settings allow.

    Raises:
        OperationError: It would be.
    """
    if stack not in present and len(present) >= most:
        raise OperationError(
            f"{base} has {len(present)} preview environments, and its max_previews is {most}: remove one, see `make "
            f"preview-envs STACK={base}`, or those whose time is over with `make preview-env-gc STACK={base}`"
        )


def expiry(now: datetime, hours: float, before: datetime | None) -> datetime:
    """Return when an environment's time is over, which is never sooner than it was.

    Raises:
        OperationError: The hours make no sense.
    """
    if not 0 < hours <= MOST_HOURS:
        raise OperationError(f"HOURS={hours:g} is not allowed: give more than 0 and at most {MOST_HOURS}")
    after = (now + timedelta(hours=hours)).replace(microsecond=0)
    return max(after, before) if before else after
