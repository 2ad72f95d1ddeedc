"""The check of who gets a stack's alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from botocore.exceptions import ClientError

from infra.aws.names import Limit, Names
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors, error_code
from ops.doctor.outcome import Outcome, passed, warning

# In place of the ARN of a subscription.
PENDING = "PendingConfirmation"


def recipients(account: Account, stack: str, wanted: Sequence[str]) -> Outcome:
    """Check that everyone who should get the alarms has agreed to it.

    Raises:
        OperationError: A request to AWS failed.
    """
    arn = f"arn:aws:sns:{account.region}:{account.id}:{Names(PROJECT, stack).of('alarms', Limit.TOPIC)}"
    pages = account.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
    with aws_errors():
        try:
            found = {one["Endpoint"]: one["SubscriptionArn"] for page in pages for one in page["Subscriptions"]}
        except ClientError as error:
            if error_code(error) != "NotFound":
                raise
            return passed("the first deployment asks the recipients of alarms to confirm")
    return judge_recipients(stack, wanted, found)


def judge_recipients(stack: str, wanted: Sequence[str], subscriptions: Mapping[str, str]) -> Outcome:
    """Judge the ARNs of the subscriptions by address."""
    missing = [email for email in wanted if not subscriptions.get(email, "Deleted").startswith(("arn:", PENDING))]
    if missing:
        # AWS deletes what is not confirmed within two days.
        return warning(
            f"{', '.join(missing)} will get no alarms: run `make deploy STACK={stack} REFRESH=1`, then confirm AWS' "
            "message within two days"
        )
    pending = [email for email in wanted if subscriptions[email] == PENDING]
    if pending:
        return warning(
            f"{', '.join(pending)} will get no alarms: open the message `AWS Notification - Subscription Confirmation` "
            "and confirm"
        )
    return passed(f"{', '.join(wanted)} get the alarms")
