"""Notifications, received by a mail server, a webhook and a topic of SNS."""

import json
import logging
import traceback
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from moto.server import ThreadedMotoServer

from ml_common import declarations, notification
from ml_common.errors import PermanentError, ServiceUnavailableError
from tests import webhook
from tests.servers import free_port
from tests.webhook import Webhook

SECRET = webhook.KEY
SUBJECT = "flights: skill < 0.05"
TEXT = "Brier skill 0.021 & falling.\nSee <the page>."


@pytest.fixture(autouse=True)
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the DAG `churn`, which notifies people through the connection `notifications`."""
    (tmp_path / "churn").mkdir()
    declare(tmp_path, "notify: [notifications]")
    monkeypatch.setattr(declarations, "DAGS", tmp_path)
    return tmp_path


def declare(dags: Path, text: str) -> None:
    (dags / "churn" / "dag.yaml").write_text(text)


def define(monkeypatch: pytest.MonkeyPatch, **connection: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NOTIFICATIONS", json.dumps(connection))


def notify(subject: str = SUBJECT) -> None:
    notification.notify("churn", subject, TEXT)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, notification.log.name):
        notify()
    return [record.getMessage() for record in caplog.records]


class Mailbox:
    """What a mail server received."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server that knows one password, as the connection `notifications`."""
    mailbox = Mailbox(free_port())

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
        return AuthResult(success=login.password == SECRET.encode(), handled=False)

    controller = Controller(
        mailbox, "127.0.0.1", mailbox.port, authenticator=authenticate, auth_required=True, auth_require_tls=False
    )
    controller.start()
    define(monkeypatch, **mail_server(mailbox.port))
    yield mailbox
    controller.stop()


def mail_server(port: int, password: str = SECRET) -> dict[str, Any]:
    return {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "login": "airflow",
        "password": password,
        "extra": {
            "from_email": "airflow@example.com",
            "to": "a@example.com, b@example.com",
            "disable_ssl": True,
            "disable_tls": True,
        },
    }


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A webhook as the connection `notifications`."""
    with webhook.running() as running:
        define(monkeypatch, **running.connection)
        yield running


def failure() -> str:
    """The sentence of a notification that is not delivered, whose traceback shows no secret."""
    with pytest.raises(ServiceUnavailableError) as failed:
        notify()
    assert SECRET not in "".join(traceback.format_exception(failed.value))
    assert len(str(failed.value).splitlines()) == 1
    return str(failed.value)


def test_a_mail_server_receives_the_message(mailbox: Mailbox) -> None:
    notify()
    [envelope] = mailbox.envelopes
    assert envelope.rcpt_tos == ["a@example.com", "b@example.com"]
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert (message["Subject"], message["From"]) == (SUBJECT, "airflow@example.com")
    [part] = message.iter_parts()
    assert part.get_content_type() == "text/html"
    assert "Brier skill 0.021 &amp; falling.\nSee &lt;the page&gt;." in part.get_content()


def test_a_webhook_receives_the_message(slack: Webhook) -> None:
    notify()
    expected = "*flights: skill &lt; 0.05*\nBrier skill 0.021 &amp; falling.\nSee &lt;the page&gt;."
    assert slack.received == [(f"/services/{SECRET}", {"text": expected})]


def test_the_subscribers_of_a_topic_receive_the_message_also_where_the_object_store_has_its_own_address(
    s3: ThreadedMotoServer, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = {"region_name": "eu-west-1"}  # another one than the stack's
    sns, sqs = boto3.client("sns", **region), boto3.client("sqs", **region)
    topic = sns.create_topic(Name="team")["TopicArn"]
    queue = sqs.create_queue(QueueName="team")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    endpoint = {"sns": {"endpoint_url": f"http://127.0.0.1:{s3_port}"}}
    define(monkeypatch, conn_type="aws", extra={"topic_arn": topic, "service_config": endpoint})
    notify(f"{SUBJECT} ü {'x' * 100}")
    [received] = sqs.receive_message(QueueUrl=queue)["Messages"]
    message = json.loads(received["Body"])
    assert message["Message"] == TEXT
    assert message["Subject"] == f"{SUBJECT} ? {'x' * 76}"  # SNS takes 100 ASCII characters


def test_without_the_connection_one_line_says_that_nothing_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog) == [
        "Sent no notification 'flights: skill < 0.05': define the Airflow connection `notifications` of type `smtp`, "
        "`slackwebhook` or `aws` to receive it."
    ]


@pytest.mark.parametrize("text", ["", "notify: []", "image: ml"])
def test_a_dag_that_declares_no_connection_sends_nothing(
    dags: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    declare(dags, text)
    assert logged(caplog) == [
        "Sent no notification 'flights: skill < 0.05': declare connections as `notify` in dags/churn/dag.yaml."
    ]


def test_each_declared_connection_gets_the_message_also_if_another_one_fails(
    dags: Path, slack: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = "server: {host: smtp.example.com, ports: [587]}"
    declare(dags, f"notify: [{{connection: mail, {server}}}, notifications, undefined]")
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(mail_server(free_port())))
    with pytest.raises(ServiceUnavailableError, match=r"was not sent through the Airflow connection `mail` \(smtp\): "):
        notify()
    assert len(slack.received) == 1


def test_a_connection_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, conn_type="http", host="example.com", password=SECRET)
    with pytest.raises(PermanentError, match=r"^The Airflow connection `notifications` has the type 'http': change it"):
        notify()


@pytest.mark.parametrize(
    ("connection", "missing"),
    [
        ({"conn_type": "aws"}, "topic_arn"),
        ({"conn_type": "smtp", "extra": {"from_email": "airflow@example.com"}}, "to"),
        ({"conn_type": "smtp", "extra": {"to": "team@example.com"}}, "from_email"),
    ],
)
def test_a_missing_setting_is_named(connection: dict[str, Any], missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, **connection)
    with pytest.raises(PermanentError, match=rf"^The Airflow connection `notifications` .* has no `{missing}`: add it"):
        notify()


def test_a_webhook_that_refuses_is_explained_without_its_secret(slack: Webhook) -> None:
    slack.status = 403
    assert failure() == (
        "The notification 'flights: skill < 0.05' was not sent through the Airflow connection `notifications` "
        "(slackwebhook): Response body: 'invalid_token', Status Code: 403. See: "
        "https://api.slack.com/messaging/webhooks#handling_errors; check the connection."
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "https:// hooks.slack.com/services/",
        "htps://hooks.slack.com/services/",
        "https://hooks.slack.com/services /",  # the error shows the path alone
    ],
)
def test_an_impossible_address_of_a_webhook_is_explained_without_its_secret(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, conn_type="slackwebhook", password=prefix + SECRET)
    assert "`notifications` (slackwebhook): " in failure()


def test_a_mail_server_that_refuses_the_password_is_explained_without_it(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, **mail_server(mailbox.port, f"{SECRET}!"))
    assert "`notifications` (smtp): (535, b'5.7.8 Authentication credentials invalid'); check" in failure()
    assert mailbox.envelopes == []


def test_a_server_that_does_not_answer_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, **mail_server(free_port()))
    assert "`notifications` (smtp): [Errno 111] Connection refused; check the connection." in failure()


def test_a_topic_that_does_not_exist_is_explained(s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:gone"
    define(monkeypatch, conn_type="aws", login="id", password=SECRET, extra={"topic_arn": topic})
    assert "(NotFound) when calling the Publish operation: " in failure()
