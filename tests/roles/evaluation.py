"""Evaluate policies as IAM does: moto matches actions and resources, and conditions are checked here."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

from infra.aws.policies import Statement

Context = Mapping[str, str | list[str]]


def permits(statements: Iterable[Statement], action: str, resource: str, context: Context | None = None) -> bool:
    """Return whether a request is allowed; a request context without a key does not meet conditions on it."""
    return any(_permits(statement.as_dict(), action, resource, context or {}) for statement in statements)


def _permits(statement: dict[str, Any], action: str, resource: str, context: Context) -> bool:
    assert statement["Effect"] == "Allow"
    conditions = statement.pop("Condition", {})
    found = IAMPolicyStatement(statement).is_action_permitted(action, resource)
    return found == PermissionResult.PERMITTED and _meets(conditions, context)


def _meets(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    return all(
        _holds(operator, expected, context.get(key))
        for operator, values in conditions.items()
        for key, expected in values.items()
    )


def _holds(operator: str, expected: str | list[str], actual: str | list[str] | None) -> bool:
    if operator == "Null":
        return (actual is None) is (expected == "true")
    wanted, found = _listed(expected), _listed(actual)
    match operator:
        case "StringEquals" | "ForAnyValue:StringEquals":
            return bool(set(wanted) & set(found))
        case "StringLike":
            return any(fnmatchcase(value, pattern) for value in found for pattern in wanted)
        case _:
            raise NotImplementedError(operator)


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def permits_trust(policy: dict[str, Any], subject: str, audience: str = "sts.amazonaws.com") -> bool:
    """Return whether a trust policy lets a job of GitHub assume the role."""
    [statement] = policy["Statement"]
    issuer = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
    context = {f"{issuer}:aud": audience, f"{issuer}:sub": subject}
    return statement["Action"] == ["sts:AssumeRoleWithWebIdentity"] and _meets(statement["Condition"], context)
