"""Write the settings of a new stack, based on an existing one."""

import re
import shutil
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from infra import helm_values
from infra.documents import REPOSITORY, read_text
from infra.errors import OperationError
from infra.settings import SettingsError, load

# The stack name is part of every AWS name: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
NAME = re.compile(r"[a-z][a-z0-9-]{0,14}[a-z0-9]")
# Lines that Pulumi adds to a stack file for the stack's own key.
OWN_LINES = re.compile(r"^(secretsprovider|encryptedkey|encryptionsalt):.*\n", re.MULTILINE)
HEADER = re.compile(r"\A((?:# yaml-language-server.*\n)?)(?:#.*\n)*")
CIDR = re.compile(r"^(\s+cidr: )(\S+).*$", re.MULTILINE)
BRANCH = re.compile(r"^(\s+branch: )(\S+).*$", re.MULTILINE)
NETWORKS = IPv4Network("10.0.0.0/8")


def write_stack(name: str, like: str, folder: Path = REPOSITORY) -> Sequence[Path]:
    """Write the files of a new stack as copies of those of the stack `like`, and return them.

    `Pulumi.<name>.yaml` gets its own network and branch. `helm-values/airflow-<name>.yaml` exists if `like` has one.

    Raises:
        OperationError: The name is invalid or taken, or the stack to copy does not exist.
    """
    existing = sorted(path.name.split(".")[1] for path in folder.glob("Pulumi.*.yaml"))
    if not NAME.fullmatch(name):
        raise OperationError(
            f'"{name}" is not a valid stack name: use 2 to 16 lower-case letters, digits and hyphens, starting with a '
            "letter"
        )
    if name in existing:
        raise OperationError(f"Pulumi.{name}.yaml already exists: choose another name, or edit that file")
    if like not in existing:
        raise OperationError(f"there is no stack {like} to copy: set LIKE to one of {', '.join(existing)}")
    file = folder / f"Pulumi.{name}.yaml"
    source = folder / f"Pulumi.{like}.yaml"
    used = [network for path in folder.glob("Pulumi.*.yaml") if (network := _network(read_text(path)))]
    file.write_text(text_like(read_text(source), name, like, free_network(used)))
    try:
        load(name, folder)
    except SettingsError as error:
        file.unlink()
        raise OperationError(f"{name} cannot be based on Pulumi.{like}.yaml: {error}") from error
    return [file, *_copied_values(name, like, folder)]


def _copied_values(name: str, like: str, folder: Path) -> Iterator[Path]:
    values = folder / helm_values.FOLDER.name
    if (source := values / helm_values.stack_file(like)).is_file():
        yield Path(shutil.copy(source, values / helm_values.stack_file(name)))


def text_like(text: str, name: str, like: str, network: IPv4Network) -> str:
    """Return the text of a stack file, changed for a new stack: with its own network and branch, without the key."""
    introduced = HEADER.sub(rf"\g<1># Based on Pulumi.{like}.yaml.\n", OWN_LINES.sub("", text), count=1)
    return BRANCH.sub(rf"\g<1>{name}", CIDR.sub(rf"\g<1>{network}", introduced, count=1), count=1)


def free_network(used: list[IPv4Network]) -> IPv4Network:
    """Return the first /16 of 10.0.0.0/8, in steps of ten, that overlaps no used network.

    Raises:
        OperationError: All networks are taken.
    """
    for network in list(NETWORKS.subnets(new_prefix=16))[10::10]:
        if not any(network.overlaps(other) for other in used):
            return network
    raise OperationError(f"every /16 of {NETWORKS} in steps of ten is taken: write the stack file by hand")


def _network(text: str) -> IPv4Network | None:
    found = CIDR.search(text)
    try:
        return IPv4Network(found[2]) if found else None
    except ValueError:  # loading that stack reports the invalid value
        return None
