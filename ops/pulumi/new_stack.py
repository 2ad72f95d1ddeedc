"""Write the settings of a new stack after those of an existing one."""

import re
from ipaddress import IPv4Network
from pathlib import Path

from infra.documents import REPOSITORY, read_text
from infra.errors import OperationError
from infra.settings import SettingsError, load

# Part of every name in AWS: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
NAME = re.compile(r"[a-z][a-z0-9-]{0,14}[a-z0-9]")
# What Pulumi wrote into the existing file about that stack's own key.
OWN_LINES = re.compile(r"^(secretsprovider|encryptedkey|encryptionsalt):.*\n", re.MULTILINE)
HEADER = re.compile(r"\A((?:# yaml-language-server.*\n)?)(?:#.*\n)*")
CIDR = re.compile(r"^(\s+cidr: )(\S+).*$", re.MULTILINE)
BRANCH = re.compile(r"^(\s+branch: )(\S+).*$", re.MULTILINE)
NETWORKS = IPv4Network("10.0.0.0/8")


def write_stack(name: str, like: str, folder: Path = REPOSITORY) -> Path:
    """Write `Pulumi.<name>.yaml` after the stack `like`, with a network and a branch of its own; return the file.

    Raises:
        OperationError: The name is not allowed or taken, or there is nothing to copy.
    """
    existing = sorted(path.name.split(".")[1] for path in folder.glob("Pulumi.*.yaml"))
    if not NAME.fullmatch(name):
        raise OperationError(
            f'"{name}" cannot name a stack: use 2 to 16 lower-case letters, digits and hyphens, beginning with a letter'
        )
    if name in existing:
        raise OperationError(f"Pulumi.{name}.yaml exists: choose another name, or edit that file")
    if like not in existing:
        raise OperationError(f"there is no stack {like} to copy: choose one of {', '.join(existing)} with LIKE=")
    file = folder / f"Pulumi.{name}.yaml"
    source = folder / f"Pulumi.{like}.yaml"
    used = [network for path in folder.glob("Pulumi.*.yaml") if (network := _network(read_text(path)))]
    file.write_text(text_like(read_text(source), name, like, free_network(used)))
    try:
        load(name, folder)
    except SettingsError as error:
        file.unlink()
        raise OperationError(f"Pulumi.{like}.yaml is no pattern for {name}: {error}") from error
    return file


def text_like(text: str, name: str, like: str, network: IPv4Network) -> str:
    """Return a stack file's text for another stack: with its own network and branch, without the original's key."""
    introduced = HEADER.sub(rf"\g<1># Made like Pulumi.{like}.yaml.\n", OWN_LINES.sub("", text), count=1)
    return BRANCH.sub(rf"\g<1>{name}", CIDR.sub(rf"\g<1>{network}", introduced, count=1), count=1)


def free_network(used: list[IPv4Network]) -> IPv4Network:
    """Return the first /16 of 10.0.0.0/8, in steps of ten, that overlaps none of the used ones.

    Raises:
        OperationError: All are taken.
    """
    for network in list(NETWORKS.subnets(new_prefix=16))[10::10]:
        if not any(network.overlaps(other) for other in used):
            return network
    raise OperationError(f"every /16 of {NETWORKS} in steps of ten is taken: write the stack's file by hand")


def _network(text: str) -> IPv4Network | None:
    found = CIDR.search(text)
    try:
        return IPv4Network(found[2]) if found else None
    except ValueError:  # a mistake in that stack's file, which is told where it is loaded
        return None
