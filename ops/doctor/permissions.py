"""Check that the credentials, or the role that deployments assume, may create a stack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infra.aws.policies import Statement
from infra.settings import Settings
from ops.aws.account import Account, aws_errors
from ops.doctor.outcome import Outcome, failed, passed, unknown
from ops.roles.actions import creations
from ops.roles.policies import Scope, deployer

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


def permissions(account: Account, stack: str, settings: Settings) -> Outcome:
    """Check the permissions of the role that deployments assume, or of the caller."""
    if settings.deploy_role_arn is None and account.arn.endswith(":root"):
        return passed("the root user may do everything; use a role instead")
    with aws_errors():
        iam = account.client("iam")
        principal = settings.deploy_role_arn or _principal(iam, account.arn)
        requests = list(simulations(Scope.of(stack, settings, account), settings.permissions_boundary))
        decisions = [decision for request in requests for decision in _simulated(iam, principal, request)]
    return judge_permissions(principal, decisions)


def simulations(scope: Scope, boundary: str | None) -> Iterator[dict[str, Any]]:
    """Yield the requests that simulate the creation of a stack: for its own names, and with its own tags.

    Policies for these names and tags alone are judged correctly.
    """
    open_ = creations()
    for statement in deployer(scope, boundary or ""):
        if actions := [action for action in statement.actions if action in open_]:
            open_ -= set(actions)
            yield {
                "ActionNames": actions,
                "ResourceArns": [statement.resources[0].replace("/*", "/example").replace("-*", "-example")],
                "ContextEntries": list(_context(statement)),
            }


def _context(statement: Statement) -> Iterator[dict[str, Any]]:
    """Yield values that meet the conditions of a statement."""
    for name, value in statement.conditions.get("StringEquals", {}).items():
        if first := value if isinstance(value, str) else value[0]:
            yield {"ContextKeyName": name, "ContextKeyValues": [first], "ContextKeyType": "string"}


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


def _simulated(iam: Any, principal: str, request: dict[str, Any]) -> list[Decision]:
    pages = iam.get_paginator("simulate_principal_policy").paginate(PolicySourceArn=principal, **request)
    return [
        Decision(
            result["EvalActionName"], result["EvalDecision"] == "allowed", bool(result.get("MissingContextValues"))
        )
        for page in pages
        for result in page["EvaluationResults"]
    ]
