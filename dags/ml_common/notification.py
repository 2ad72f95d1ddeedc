"""Messages to people, through the Airflow connections that a DAG declares as `notify` in its dag.yaml.

The type of a connection decides where a message goes:

| type | receives the message | extra |
| --- | --- | --- |
| `smtp` | the addresses in `to` | `{"from_email": "airflow@example.com", "to": "team@example.com"}` |
| `slackwebhook` | the channel of the webhook | |
| `aws` | the subscribers of the SNS topic | `{"topic_arn": "arn:aws:sns:us-east-1:123456789012:team"}` |

A connection that is not defined sends nothing. A webhook of another product works as `slackwebhook` if it takes Slack's
messages. Slack and SNS use HTTPS; declare the `server` of any other connection, such as a mail server. On AWS, an `aws`
connection without keys uses the roles of the DAG and of the triggerer: declare the `topic`. Elsewhere AWS_ENDPOINT_URL
is the address of the object store: also add the address of SNS to the extra,
`"service_config": {"sns": {"endpoint_url": "https://sns.us-east-1.amazonaws.com"}}`.

The triggerer sends the messages about failed and late runs. For another message, call `notify` in the last task of a
DAG, which is tried again by Airflow's rules and undoes nothing when it fails.
"""

import html
import logging
from collections.abc import Callable
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_common import declarations
from ml_common.errors import PermanentError, ServiceUnavailableError

# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
SNS_SUBJECT_CHARACTERS = 100

log = logging.getLogger(__name__)


def notify(dag_id: str, subject: str, text: str) -> None:
    """Send a message through each connection that a DAG declares, or log that it is not defined.

    Args:
        dag_id: The DAG.
        subject: One line.
        text: Plain text of any length.

    Raises:
        PermanentError: A connection has another type or lacks a setting.
        ServiceUnavailableError: The message was not delivered.
    """
    connections = declarations.connections(dag_id)
    if not connections:
        log.info("Sent no notification %r: declare connections as `notify` in dags/%s/dag.yaml.", subject, dag_id)
    failures = []
    for conn_id in connections:
        try:
            _send(conn_id, subject, text)
        except (PermanentError, ServiceUnavailableError) as error:
            log.error("%s", error)
            failures.append(error)
    if failures:
        raise failures[0]


def _send(conn_id: str, subject: str, text: str) -> None:
    try:
        connection = Connection.get(conn_id)
    except AirflowNotFoundException:
        log.info(
            "Sent no notification %r: define the Airflow connection `%s` of type %s to receive it.",
            subject,
            conn_id,
            _types(),
        )
        return
    if connection.conn_type not in SENDERS:
        raise PermanentError(
            f"The Airflow connection `{conn_id}` has the type {connection.conn_type!r}: change it to {_types()}."
        )
    try:
        SENDERS[connection.conn_type](connection, subject, text)
    except PermanentError:
        raise
    except Exception as error:  # noqa: BLE001 - each provider has its own errors
        # The traceback of the original error could show the secret.
        raise ServiceUnavailableError(
            f"The notification {subject!r} was not sent through the Airflow connection `{conn_id}` "
            f"({connection.conn_type}): {_reason(error, connection.password or '')}; check the connection."
        ) from None
    log.info("Sent the notification %r through the Airflow connection `%s`.", subject, conn_id)


def _send_mail(connection: Any, subject: str, text: str) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    recipients = _setting(connection, "to")
    _setting(connection, "from_email")
    with SmtpHook(smtp_conn_id=connection.conn_id) as hook:
        hook.send_email_smtp(to=recipients, subject=subject, html_content=f"<pre>{html.escape(text)}</pre>")


def _post_to_slack(connection: Any, subject: str, text: str) -> None:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    message = html.escape(f"*{subject}*\n{text}", quote=False)
    SlackWebhookHook(slack_webhook_conn_id=connection.conn_id).send_text(message)


def _publish_to_sns(connection: Any, subject: str, text: str) -> None:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.utils import ArnParser

    topic = _setting(connection, "topic_arn")
    region = ArnParser().parse_arn(topic)["region"]
    ascii_subject = subject.encode("ascii", "replace").decode()[:SNS_SUBJECT_CHARACTERS]
    sns = AwsBaseHook(connection.conn_id, client_type="sns", region_name=region).get_conn()
    sns.publish(TopicArn=topic, Subject=ascii_subject, Message=text)


SENDERS: dict[str, Callable[[Any, str, str], None]] = {
    "smtp": _send_mail,
    "slackwebhook": _post_to_slack,
    "aws": _publish_to_sns,
}


def _types() -> str:
    *others, last = (f"`{name}`" for name in SENDERS)
    return f"{', '.join(others)} or {last}"


def _setting(connection: Any, name: str) -> str:
    value = connection.extra_dejson.get(name)
    if not value:
        raise PermanentError(
            f"The Airflow connection `{connection.conn_id}` ({connection.conn_type}) has no `{name}`: add it to its "
            "extra."
        )
    return str(value)


def _reason(error: Exception, password: str) -> str:
    """Return the first line of an error without the password, which may be the whole URL of a webhook or its path."""
    reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    path_of_url = password.partition("://")[2].partition("/")[2]
    for secret in (password, path_of_url):
        reason = reason.replace(secret, "***") if secret else reason
    return reason
