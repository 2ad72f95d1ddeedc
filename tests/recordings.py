"""What the stacks' programs register, recorded once for all tests of a process."""

from functools import cache
from pathlib import Path

from infra.documents import REPOSITORY
from ops.plan.recording import record
from ops.plan.resources import Recording


def recorded(stack: str, root: Path = REPOSITORY, *, reveal: bool = False) -> Recording:
    """Return the recording of a stack, which no test may change."""
    return _recorded(stack, root, reveal)


@cache
def _recorded(stack: str, root: Path, reveal: bool) -> Recording:
    return record(stack, root, reveal=reveal)
