"""Checks of this machine: its programs and its public address."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network

import httpx

from infra.errors import OperationError
from infra.images import content
from ops.doctor.outcome import Outcome, failed, passed, unknown
from ops.images.build import check_disk
from ops.images.tools import available_tool

ADDRESS_URL = "https://checkip.amazonaws.com"
TIMEOUT_SECONDS = 5
# The first versions, by major version, whose `aws eks get-token` works with current clusters:
# https://docs.aws.amazon.com/eks/latest/userguide/install-awscli.html
AWS_CLI = {1: (1, 27, 160), 2: (2, 12, 3)}

Version = tuple[int, ...]


def kubectl(kubernetes: str) -> Outcome:
    """Check the version of kubectl against the cluster's."""
    found = json.loads(_output("kubectl", "version", "--client", "--output", "json"))
    return judge_kubectl(_version(found["clientVersion"]["gitVersion"]), _version(kubernetes))


def judge_kubectl(found: Version, kubernetes: Version) -> Outcome:
    """Judge the version: https://kubernetes.io/releases/version-skew-policy/#kubectl."""
    text = f"kubectl {_text(found[:2])} with Kubernetes {_text(kubernetes)}"
    if abs(found[1] - kubernetes[1]) <= 1:
        return passed(text)
    return unknown(f"{text} is not supported: install a version that differs by one minor version at most")


def aws_cli() -> Outcome:
    """Check the version of the AWS CLI, with which everyone logs in to the cluster."""
    return judge_aws_cli(_version(_output("aws", "--version")))


def judge_aws_cli(found: Version) -> Outcome:
    """Judge the version."""
    needed = AWS_CLI.get(found[0])
    if needed and found >= needed:
        return passed(f"AWS CLI {_text(found)}")
    return failed(f"AWS CLI {_text(found)} is too old: install {_text(AWS_CLI[2])} or later")


def builder() -> Outcome:
    """Check that images can be built."""
    tool = available_tool()
    check_disk(tool, content.names())
    return passed(f"{tool.name}, with enough free disk")


def public_address(networks: Sequence[IPv4Network]) -> Outcome:
    """Check that this machine may reach the Kubernetes API."""
    try:
        address = IPv4Address(httpx.get(ADDRESS_URL, timeout=TIMEOUT_SECONDS).raise_for_status().text.strip())
    except (httpx.HTTPError, AddressValueError, ValueError, ImportError) as error:  # the last two: an unusable proxy
        return unknown(f"{ADDRESS_URL} does not tell this machine's address ({error})")
    return judge_address(address, networks)


def judge_address(address: IPv4Address, networks: Sequence[IPv4Network]) -> Outcome:
    """Judge this machine's address."""
    if not networks:
        return unknown("airflow:cluster.public_access_cidrs is empty: only the VPC reaches the Kubernetes API")
    if any(address in network for network in networks):
        return passed(f"{address} is in airflow:cluster.public_access_cidrs")
    return failed(f"{address} is not in airflow:cluster.public_access_cidrs: add {address}/32, or your network")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise OperationError(f"{command[0]} is not on PATH: install it") from None
    except subprocess.CalledProcessError as error:
        raise OperationError(f"`{' '.join(command)}` fails ({error.stderr.strip()}): reinstall it") from error


def _version(text: str) -> Version:
    found = re.search(r"\d+(\.\d+)+", text)
    if found is None:
        raise OperationError(f"{text!r} contains no version")
    return tuple(map(int, found[0].split(".")))


def _text(version: Version) -> str:
    return ".".join(map(str, version))
