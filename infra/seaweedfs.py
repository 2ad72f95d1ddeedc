"""SeaweedFS, the S3 server outside AWS, as it runs on a laptop and in a cluster alike.

It has three parts: a master that knows the volumes, a volume server that keeps the bytes in them, and a filer with the
names of the objects and the S3 gateway. The gateway checks signatures. The other parts trust whoever reaches them, so
each platform closes their ports.

Options: https://github.com/seaweedfs/seaweedfs/wiki
"""

from collections.abc import Mapping

REGION = "us-east-1"
LOG_DAYS = 30

MASTER = {
    "peers": "none",  # a single master waits for no election
    "telemetry": "false",
    "volumeSizeLimitMB": "256",  # compaction copies a volume, so a small one needs little free disk
}
VOLUME = {
    "max": "4096",  # 1 TiB; the default stops when eight volumes are full
    "minFreeSpace": "1GiB",  # below it, writes are refused; the default is 1 % of the disk
    "preStopSeconds": "0",  # no other volume server takes over
}
GATEWAY = {
    "autoCreateBucket": "false",
    "concurrentUploadLimitMB": "128",  # further uploads wait, so that any number of clients fits into the memory
    "allowedOrigins": "none",  # no web page reads an answer
    "iam": "false",  # the only key is the one that it is started with
    "port.iceberg": "0",
    "port.lance": "0",
}
# Go returns memory to the system when the heap nears this limit: https://pkg.go.dev/runtime#hdr-Environment_Variables
MEMORY_LIMIT = "GOMEMLIMIT"

FILER_SETTINGS = """\
[leveldb2]
enabled = true
dir = "filer"
"""
# Files that the programs would look for in the home folder and in /etc/seaweedfs, where they belong to another server.
UNUSED_SETTINGS = ("credential.toml", "notification.toml", "volume.toml")


def arguments(options: Mapping[str, str], prefix: str = "") -> list[str]:
    """Return options as arguments; `weed server` takes those of a part with the part's name as prefix."""
    return [f"-{prefix}{name}={value}" for name, value in options.items()]


def security_settings(certificate: str) -> str:
    """Return the settings that close all ports but the S3 port to whoever lacks the certificate.

    `certificate` is a PEM file with a private key and its certificate, which is its own authority.
    """
    pair = f'cert = "{certificate}"\nkey = "{certificate}"\n'
    sections = [f'[grpc]\nca = "{certificate}"\n']
    sections += [f"[grpc.{part}]\n{pair}" for part in ("master", "volume", "filer", "s3", "client")]
    sections += [f'[https.{part}]\n{pair}ca = "{certificate}"\n' for part in ("master", "volume", "filer")]
    sections.append(f'[https.client]\nenabled = true\n{pair}ca = "{certificate}"\n')
    return "\n".join(sections)


def master_settings(gateway_grpc: str) -> str:
    """Return the master's settings: few volumes, and what it does every 17 minutes.

    It deletes what the buckets' lifecycle rules say, uploads that were never completed, volumes that became empty, and
    its own record of changes. `gateway_grpc` is the address of the gateway's gRPC port.
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
