"""A permission."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """A statement of a policy, or a rule of a role.

    Attributes:
        who: The component or role with the permission, or the principal of a resource-based policy.
        effect: Allow or Deny.
        actions: The actions; an AWS managed policy is one entry.
        resources: The ARNs, objects of the cluster, or servers.
        conditions: The conditions as texts.
        source: The logical name of the resource that contains the statement.
    """

    who: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[str, ...]
    source: str
