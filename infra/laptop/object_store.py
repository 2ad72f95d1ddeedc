"""An S3 server that keeps its objects on disk: the package ministack."""

import os
import sys
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from infra import own_s3
from infra.laptop.home import Home
from infra.laptop.processes import Service, answers
from infra.loopback import LOOPBACK

REGION = "us-east-1"
BUCKETS = {"data": "airflow-data", "artifacts": "airflow-artifacts", "logs": "airflow-logs"}
LOG_DAYS = 30
HEALTH_PATH = "/_ministack/health"


def service(home: Home, port: int) -> Service:
    """Return the S3 server."""
    return Service(
        name="s3",
        command=(sys.executable, "-m", "hypercorn", "infra.s3_server:app", "--bind", f"{LOOPBACK}:{port}"),
        environment={
            **credentials(home),
            "AUTH": "true",  # requests are checked against the generated key
            "GATEWAY_PORT": str(port),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(home.objects),
            "LOG_LEVEL": "WARNING",
            # It emulates more than S3 and would listen for it, and tidy up in a Docker daemon that it finds.
            "SERVICES": "s3",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "DOCKER_HOST": f"unix://{home.root}/no-docker.sock",
        },
        port=port,
        healthy=lambda: answers(f"http://{LOOPBACK}:{port}{HEALTH_PATH}"),
    )


def credentials(home: Home) -> dict[str, str]:
    """Return the environment variables with which AWS clients sign their requests."""
    return {
        "AWS_ACCESS_KEY_ID": home.secrets.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": home.secrets.s3_secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }


def client_environment(home: Home, port: int) -> dict[str, str]:
    """Return the environment variables with which boto3 reaches this server and no other."""
    nowhere = os.devnull
    return {
        **credentials(home),
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        # The user's own AWS profiles have no say here.
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
    }


def client(home: Home, port: int) -> Any:
    """Return a boto3 S3 client for this server."""
    return own_s3.client(
        f"http://{LOOPBACK}:{port}",
        REGION,
        home.secrets.s3_access_key,
        home.secrets.s3_secret_key,
        Config(max_pool_connections=32, retries={"mode": "standard", "total_max_attempts": 5}),
    )


def create_buckets(home: Home, port: int) -> None:
    """Create the buckets that are missing and put their settings back, which the server forgets when it ends."""
    s3 = client(home, port)
    for name in BUCKETS.values():
        try:
            s3.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                raise
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    expiry = {"ID": "expire", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": LOG_DAYS}}
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKETS["logs"], LifecycleConfiguration={"Rules": [expiry]})
