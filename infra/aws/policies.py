"""IAM policy documents as values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from infra.dag_declarations import DagDeclaration

VERSION = "2012-10-17"
# The services that send alarms.
ALARM_SENDERS = ("cloudwatch.amazonaws.com", "budgets.amazonaws.com")

Conditions = Mapping[str, Mapping[str, str | Sequence[str]]]


@dataclass(frozen=True)
class Statement:
    """One statement; `principals` is only for resource policies and trust policies.

    Attributes:
        actions: The actions.
        resources: The resources.
        conditions: The conditions.
        principals: The principals.
        effect: Whether the actions are allowed or denied.
        others: Whether the statement is about all actions except `actions`.
    """

    actions: Sequence[str]
    resources: Sequence[str] = ()
    conditions: Conditions = field(default_factory=dict)
    principals: Mapping[str, str] | Literal["*"] | None = None
    effect: Literal["Allow", "Deny"] = "Allow"
    others: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the statement in the format of IAM."""
        elements = {
            "Effect": self.effect,
            "Principal": dict(self.principals) if isinstance(self.principals, Mapping) else self.principals,
            "NotAction" if self.others else "Action": list(self.actions),
            "Resource": list(self.resources),
            "Condition": {operator: dict(values) for operator, values in self.conditions.items()},
        }
        return {name: value for name, value in elements.items() if value}


def document(*statements: Statement) -> str:
    """Return a JSON policy of the statements."""
    return json.dumps({"Version": VERSION, "Statement": [statement.as_dict() for statement in statements]})


def trust(service: str, *actions: str, conditions: Conditions | None = None) -> str:
    """Return the trust policy of a role that an AWS service assumes."""
    return document(
        Statement(actions or ("sts:AssumeRole",), principals={"Service": service}, conditions=conditions or {})
    )


def this_account(account: str) -> Conditions:
    """Return the condition that a service acts on behalf of this account."""
    return {"StringEquals": {"aws:SourceAccount": account}}


def declared(dag: DagDeclaration) -> list[Statement]:
    """Return the permissions that a DAG declares, besides those on the stack's buckets."""
    return [*(Statement(one.actions, one.resources) for one in dag.permissions), *publishing(dag)]


def publishing(*dags: DagDeclaration) -> list[Statement]:
    """Return the permission to publish to the SNS topics through which DAGs notify people."""
    topics = tuple(dict.fromkeys(topic for dag in dags for topic in dag.notification_topics))
    return [Statement(("sns:Publish",), topics)] if topics else []
