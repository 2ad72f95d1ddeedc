"""The official Helm chart of Apache Airflow: one version, pinned by digest, downloaded once for all stacks."""

import hashlib
import os
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import platformdirs
import pulumi
import yaml

from infra.errors import OperationError

NAME = "airflow"
VERSION = "1.22.0"
SHA256 = "1f7d1dfe3d58e2c54899950aba907a43625a18c8b6fb3c54760c21592129a5b6"
ARCHIVE = f"{NAME}-{VERSION}.tgz"

# The Apache Software Foundation archives every release of Airflow and of its chart.
RELEASES = "https://archive.apache.org/dist/airflow/"
CHART_RELEASES = f"{RELEASES}helm-chart/"
URL = f"{CHART_RELEASES}{VERSION}/{ARCHIVE}"
TIMEOUT_SECONDS = 30


class ChartError(OperationError, pulumi.RunError):
    """The chart cannot be downloaded or saved, or has the wrong digest."""


class ChartUnreachableError(ChartError):
    """The chart is not in the cache and cannot be downloaded."""


def cached_archive() -> Path:
    """Return the path of the chart in this machine's cache; it need not exist."""
    return Path(platformdirs.user_cache_dir("airflow-on-kubernetes")) / "charts" / ARCHIVE


def archive() -> Path:
    """Return the path of the chart's archive; download it if it is not in the cache.

    Raises:
        ChartUnreachableError: The chart cannot be downloaded.
        ChartError: Its digest is wrong, or it cannot be saved.
    """
    path = cached_archive()
    if not path.exists():
        _keep(path, _download())
    if (digest := _digest(path.read_bytes())) != SHA256:
        raise ChartError(f"{path} is not the chart {NAME} {VERSION} (its sha256 is {digest}): delete it and retry")
    return path


def _download() -> bytes:
    try:
        response = httpx.get(URL, follow_redirects=True, timeout=TIMEOUT_SECONDS).raise_for_status()
    except (httpx.HTTPError, ValueError, ImportError) as error:  # the last two: a proxy that httpx cannot use
        reason = str(error).partition("\n")[0]
        raise ChartUnreachableError(
            f"the chart cannot be downloaded from {URL} ({reason}): check the network, or download it yourself and "
            f"save it as {cached_archive()}"
        ) from error
    if (digest := _digest(response.content)) != SHA256:
        raise ChartError(f"{URL} is not the chart {NAME} {VERSION}: its sha256 is {digest}, not {SHA256}")
    return response.content


def _keep(path: Path, content: bytes) -> None:
    """Write the file atomically."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ChartError(f"the chart cannot be saved as {path} ({error.strerror}): check the folder") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def schema() -> dict[str, Any]:
    """Return the chart's JSON schema for its values."""
    return dict(yaml.safe_load(_member("values.schema.json")))


@cache
def defaults() -> dict[str, Any]:
    """Return the chart's default values."""
    return dict(yaml.safe_load(_member("values.yaml")))


def _member(name: str) -> bytes:
    with tarfile.open(archive()) as files:
        file = files.extractfile(f"{NAME}/{name}")
        if file is None:
            raise ChartError(f"{ARCHIVE} does not contain {name}")
        return file.read()
