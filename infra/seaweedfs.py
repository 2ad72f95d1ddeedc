"""The configuration of SeaweedFS, the S3 server outside AWS, for laptops and clusters.

It has three parts: a master that manages volumes, a volume server that stores the data, and a filer with the names of
the objects and the S3 gateway. The gateway checks signatures. The other parts trust every client, so each platform
closes their ports.

Options: https://github.com/seaweedfs/seaweedfs/wiki
"""

from collections.abc import Mapping

REGION = "us-east-1"
LOG_DAYS = 30

MASTER = {
    "peers": "none",  # a single master needs no election
    "telemetry": "false",
    "volumeSizeLimitMB": "256",  # compaction copies a volume, so small volumes need little free disk
}
VOLUME = {
    "max": "4096",  # 1 TiB; by default, writes stop when eight volumes are full
    "minFreeSpace": "1GiB",  # with less free space, writes are refused; the default is 1 % of the disk
    "preStopSeconds": "0",  # no other volume server takes over
}
GATEWAY = {
    "autoCreateBucket": "false",
    "concurrentUploadLimitMB": "128",  # further uploads wait, so that memory does not grow with the number of clients
    "allowedOrigins": "none",  # no web page may read responses
    "iam": "false",  # the only key is the one given at startup
    "port.iceberg": "0",
    "port.lance": "0",
}
# Go returns memory to the system as the heap nears this limit: https://pkg.go.dev/runtime#hdr-Environment_Variables
MEMORY_LIMIT = "GOMEMLIMIT"

FILER_SETTINGS = """\
[leveldb2]
enabled = true
dir = "filer"
"""
# Files that SeaweedFS would also look for in the home folder and /etc/seaweedfs, where they belong to another server.
UNUSED_SETTINGS = ("credential.toml", "notification.toml", "volume.toml")


def arguments(options: Mapping[str, str], prefix: str = "") -> list[str]:
    """Return options as arguments; for `weed server`, the prefix names the part that an option is for."""
    return [f"-{prefix}{name}={value}" for name, value in options.items()]


def security_settings(certificate: str) -> str:
    """Return the settings that close all ports but the S3 port to clients without the certificate.

    `certificate` is a PEM file with a private key and its self-signed certificate.
    """
    pair = f'cert = "{certificate}"\nkey = "{certificate}"\n'
    sections = [f'[grpc]\nca = "{certificate}"\n']
    sections += [f"[grpc.{part}]\n{pair}" for part in ("master", "volume", "filer", "s3", "client")]
    sections += [f'[https.{part}]\n{pair}ca = "{certificate}"\n' for part in ("master", "volume", "filer")]
    sections.append(f'[https.client]\nenabled = true\n{pair}ca = "{certificate}"\n')
    return "\n".join(sections)


def master_settings(gateway_grpc: str) -> str:
    """Return the master's settings: the number of volumes, and the maintenance every 17 minutes.

    The maintenance deletes objects that expire by the buckets' lifecycle rules, incomplete uploads, empty volumes and
    the master's own change log. `gateway_grpc` is the address of the gateway's gRPC port.
    """
    return f'''\
[master.volume_growth]
copy_1 = 1

[master.maintenance]
sleep_minutes = 17
scripts = """
lock
s3.lifecycle.run-shard -shards 0-15 -s3 {gateway_grpc} -events 0 -runtime 5m
s3.clean.uploads -timeAgo=24h
volume.deleteEmpty -quietFor=24h -apply
fs.log.purge -daysAgo=7
unlock
"""
'''
