"""Who gets a stack's alarms: AWS asks each address, and forgets those that do not answer."""

import boto3
import pytest
from botocore.stub import Stubber

from ops.aws.account import Account
from ops.doctor.alarms import judge_recipients, recipients
from tests.stacks.test_doctor import account_with

ARN = "arn:aws:sns:us-east-1:123456789012:airflow-dev-alarms"
CONFIRMED = f"{ARN}:6f1e8a5e"


@pytest.mark.parametrize(
    ("subscriptions", "status", "text"),
    [
        ({"a@x.test": CONFIRMED, "b@x.test": CONFIRMED}, "passed", "a@x.test, b@x.test get the alarms"),
        (
            {"a@x.test": CONFIRMED, "b@x.test": "PendingConfirmation"},
            "warning",
            "b@x.test will get no alarms: open",
        ),
        (
            {"a@x.test": CONFIRMED},
            "warning",
            "b@x.test will get no alarms: run `make deploy STACK=dev REFRESH=1`",
        ),
        ({"a@x.test": "Deleted", "b@x.test": CONFIRMED}, "warning", "a@x.test will get no alarms: run `make deploy"),
    ],
)
def test_only_a_confirmed_address_gets_the_alarms(subscriptions: dict[str, str], status: str, text: str) -> None:
    outcome = judge_recipients("dev", ["a@x.test", "b@x.test"], subscriptions)
    assert outcome.status == status
    assert outcome.text.startswith(text)


def test_before_the_first_deployment_there_is_nothing_to_confirm(account: Account) -> None:
    assert recipients(account, "dev", ["a@x.test"]).text.startswith("the first deployment asks")
    account.client("sns").create_topic(Name="airflow-dev-alarms")
    assert recipients(account, "dev", ["a@x.test"]).status == "warning"


def test_all_subscriptions_of_the_topic_are_read() -> None:
    client = boto3.client("sns", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    with Stubber(client) as stubber:
        for expected, email, token in (({}, "a@x.test", "t"), ({"NextToken": "t"}, "b@x.test", "")):
            subscription = {"Endpoint": email, "SubscriptionArn": CONFIRMED, "TopicArn": ARN, "Protocol": "email"}
            answer = {"Subscriptions": [subscription], **({"NextToken": token} if token else {})}
            stubber.add_response("list_subscriptions_by_topic", answer, {"TopicArn": ARN, **expected})
        outcome = recipients(account_with(sns=client), "dev", ["a@x.test", "b@x.test"])
        stubber.assert_no_pending_responses()
    assert outcome.status == "passed"
