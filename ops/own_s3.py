"""Clients of the bundle's own S3 servers. They ignore the user's AWS profiles and variables."""

import os
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as VARIABLES

# By name: the key in a configuration file, the variable, the default, and the conversion from text.
UNREAD = {name: (None, None, default, convert) for name, (_, _, default, convert) in VARIABLES.items()} | {
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


def client(address: str, region: str, access_key: str, secret_key: str, config: Config | None = None) -> Any:
    """Return a boto3 S3 client for the server at an address."""
    session = boto3.Session(botocore_session=botocore.session.Session(session_vars=UNREAD))
    return session.client(
        "s3",
        endpoint_url=address,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )
