"""How programs reach a registry: with ECR's credentials in a file of their own, else as the user is logged in there."""

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
# What Docker, skopeo and cosign alike read.
FILE = "config.json"


def host_of(name: str) -> str:
    """Return the host, and the port if one is named, of an image's or a repository's full name."""
    return name.partition("/")[0]


def is_loopback(name: str) -> bool:
    """Say whether a registry is on this machine, where tools take it to speak HTTP."""
    host = host_of(name).partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def logged_in(repository: str) -> Iterator[Path | None]:
    """Yield the file that logs in at a repository's registry, for as long as it is needed.

    None where the registry is none of AWS: the programs find the user's own login by themselves.

    Raises:
        OperationError: AWS refuses a request, or cannot be asked.
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
    """Return user and password in base64, as ECR gives them out for twelve hours."""
    [found] = client.get_authorization_token()["authorizationData"]
    return str(found["authorizationToken"])
