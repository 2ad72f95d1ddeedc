"""Registry credentials for programs: a temporary file for ECR, otherwise the user's own login."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3

from ops.aws.account import aws_errors

# https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
ECR = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
# The file that Docker, skopeo and cosign read.
FILE = "config.json"


def host_of(name: str) -> str:
    """Return the host, and the port if there is one, of the full name of an image or repository."""
    return name.partition("/")[0]


def is_loopback(name: str) -> bool:
    """Return whether a registry is on this machine; tools use HTTP for such registries."""
    host = host_of(name).partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def logged_in(repository: str) -> Iterator[Path | None]:
    """Yield a temporary credentials file for a repository in ECR.

    For other registries, yield None: the programs use the user's login.

    Raises:
        OperationError: AWS rejects a request or cannot be reached.
    """
    found = ECR.fullmatch(host_of(repository))
    if found is None:
        yield None
        return
    with aws_errors():
        token = ecr_token(boto3.client("ecr", region_name=found["region"]))
    with TemporaryDirectory(prefix="registry-") as folder:
        file = Path(folder, FILE)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump({"auths": {host_of(repository): {"auth": token}}}, opened)
        yield file


def ecr_token(client: Any) -> str:
    """Return the user and password for ECR in base64; they are valid for twelve hours."""
    [found] = client.get_authorization_token()["authorizationData"]
    return str(found["authorizationToken"])
