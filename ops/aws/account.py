"""The AWS account of the current credentials, checked against the settings."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.errors import OperationError
from infra.settings import Settings

# Error codes for unusable credentials: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
UNUSABLE = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
)
LOG_IN = "log in with `aws sso login`, or store access keys with `aws configure`"


@dataclass(frozen=True)
class Account:
    """An AWS account in one region.

    Attributes:
        id: The account ID.
        arn: The ARN of the caller.
        region: The region.
        session: The boto3 session.
    """

    id: str
    arn: str
    region: str
    session: Any

    def client(self, service: str) -> Any:
        """Return a client for a service in the account's region.

        Raises:
            OperationError: The AWS configuration is invalid.
        """
        with aws_errors():
            return self.session.client(service)


def account_of(stack: str, settings: Settings) -> Account:
    """Return the account of the current credentials.

    Raises:
        OperationError: The credentials are missing or unusable, or the settings name another account.
    """
    with aws_errors():
        session = boto3.Session(region_name=settings.region)
        identity = session.client("sts").get_caller_identity()
    if settings.account_id and identity["Account"] != settings.account_id:
        raise OperationError(
            f"the credentials belong to {identity['Arn']} in account {identity['Account']}, but {stack} "
            f"belongs to account {settings.account_id}: use credentials for that account, or "
            f"change account_id in Pulumi.{stack}.yaml"
        )
    return Account(identity["Account"], identity["Arn"], settings.region, session)


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn errors of AWS and boto3 into one sentence.

    Raises:
        OperationError: AWS refused a request or could not be reached.
    """
    try:
        yield
    except ClientError as error:
        raise OperationError(_refusal(error)) from error
    # boto3 does not wrap some profile errors, and answers of proxies that are not from AWS.
    except (BotoCoreError, ResponseParserError, OSError, ValueError) as error:
        raise OperationError(_failure(error)) from error


def error_code(error: ClientError) -> str:
    """Return the AWS error code, such as `404` or `AccessDenied`."""
    return str(error.response["Error"]["Code"])


def _refusal(error: ClientError) -> str:
    message = " ".join(error.response["Error"].get("Message", "").split()).strip(". ")
    if error_code(error) in UNUSABLE:
        return f"AWS does not accept the credentials ({message}): {LOG_IN}"
    return (
        f"AWS refused {error.operation_name} ({error_code(error)}: {message}): check the permissions of the credentials"
    )


def _failure(error: Exception) -> str:
    text = str(error).partition("\n")[0] if isinstance(error, ResponseParserError) else str(error)
    reason = " ".join(text.split()).strip(".: ")
    if isinstance(error, (exceptions.SSOError, exceptions.TokenRetrievalError, exceptions.LoginError)):
        return f"the AWS login is missing or has expired ({reason}): run `aws sso login`"
    if isinstance(error, exceptions.NoCredentialsError):
        return f"there are no AWS credentials: {LOG_IN}"
    if isinstance(error, exceptions.ProfileNotFound):
        return (
            f"{reason}: set AWS_PROFILE to one that `aws configure list-profiles` shows, or create it with `aws "
            "configure sso`"
        )
    if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError, ResponseParserError)):
        subject = "the network"
    else:
        profile = os.environ.get("AWS_PROFILE")
        subject = (f"the profile {profile} of AWS_PROFILE" if profile else "the variables AWS_*") + " and ~/.aws"
    return f"the request to AWS failed ({reason}): check {subject}, and that `aws sts get-caller-identity` works"
