"""Split permissions over policies, because IAM limits the size of each."""

from __future__ import annotations

from collections.abc import Iterable

from infra.aws.policies import Statement, document
from infra.errors import OperationError

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entity-length
MOST_CHARACTERS = 6144
MOST_POLICIES = 10


def documents(statements: Iterable[Statement]) -> list[str]:
    """Return the statements as policies of a role, in order.

    Raises:
        OperationError: They do not fit into the policies that a role can have.
    """
    groups: list[list[Statement]] = [[]]
    for statement in statements:
        if groups[-1] and _size([*groups[-1], statement]) > MOST_CHARACTERS:
            groups.append([])
        groups[-1].append(statement)
    if len(groups) > MOST_POLICIES or any(_size(group) > MOST_CHARACTERS for group in groups):
        raise OperationError(
            f"the permissions need {len(groups)} policies of up to {max(map(_size, groups))} characters, but IAM "
            f"allows {MOST_POLICIES} of {MOST_CHARACTERS}: shorten the longest statement"
        )
    return [document(*group) for group in groups]


def _size(statements: Iterable[Statement]) -> int:
    """Return the characters that IAM counts: all except white space."""
    return len("".join(document(*statements).split()))
