"""Check that the credentials, or the role that deployments assume, may create a stack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.aws.names import Names
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors
from ops.doctor.needed_actions import actions_by_resource
from ops.doctor.outcome import Outcome, failed, passed, unknown

ASSUMED_ROLE = re.compile(r"arn:aws:sts::\d+:assumed-role/(?P<role>[^/]+)/.*")
SHOWN = 5


@dataclass(frozen=True)
class Decision:
    """AWS' decision on an action.

    Attributes:
        action: The action.
        allowed: Whether it is allowed.
        conditional: Whether the decision depends on a condition that the simulation cannot know.
    """

    action: str
    allowed: bool
    conditional: bool


def permissions(account: Account, stack: str, role: str | None) -> Outcome:
    """Check the permissions of a role, or of the caller."""
    if role is None and account.arn.endswith(":root"):
        return passed("the root user may do everything; use a role instead")
    with aws_errors():
        iam = account.client("iam")
        principal = role or _principal(iam, account.arn)
        by_resource = actions_by_resource(Names(PROJECT, stack), account.id, account.region)
        decisions = [
            decision
            for resource, actions in by_resource.items()
            for decision in _simulated(iam, principal, list(actions), resource)
        ]
    return judge_permissions(principal, decisions)


def judge_permissions(principal: str, decisions: Sequence[Decision]) -> Outcome:
    """Judge AWS' decisions."""
    denied = [decision for decision in decisions if not decision.allowed]
    if not denied:
        return passed(f"{principal} may create the stack ({len(decisions)} actions)")
    names = [decision.action for decision in denied]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    text = f"{', '.join(names[:SHOWN])}{more}"
    if all(decision.conditional for decision in denied):
        return unknown(f"{principal} may do {text} under conditions that only a deployment can meet")
    return failed(f"{principal} may not do {text}: extend its policies, see docs/aws.md#prerequisites")


def _principal(iam: Any, arn: str) -> str:
    """Return the ARN that IAM simulates: for a session, that of its role, whose path the session's ARN lacks."""
    session = ASSUMED_ROLE.fullmatch(arn)
    return str(iam.get_role(RoleName=session["role"])["Role"]["Arn"]) if session else arn


def _simulated(iam: Any, principal: str, actions: Sequence[str], resource: str) -> list[Decision]:
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=principal, ActionNames=actions, ResourceArns=[resource]
    )
    return [
        Decision(
            result["EvalActionName"], result["EvalDecision"] == "allowed", bool(result.get("MissingContextValues"))
        )
        for page in pages
        for result in page["EvaluationResults"]
    ]
