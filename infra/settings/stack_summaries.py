"""What stacks must know of each other: networks, branches, and the chain along which releases pass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from urllib.parse import urlsplit

# `git@host:path`, the short form of an SSH address: https://git-scm.com/docs/git-clone#_git_urls
SHORT_SSH = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>[^/:@]+):(?P<path>[^/].*|/(?!/).*)")


@dataclass(frozen=True)
class Source:
    """A branch of a repository, in whichever form its address was written."""

    repository: str
    branch: str

    @classmethod
    def of(cls, repository: str, branch: str) -> Source:
        """Bring an address into the form `host/path`."""
        short = SHORT_SSH.fullmatch(repository)
        parts = urlsplit(repository)
        place = f"{short['host']}/{short['path']}" if short else f"{parts.hostname}{parts.path}"
        return cls(place.lower().rstrip("/").removesuffix(".git"), branch)


@dataclass(frozen=True)
class StackSummary:
    """What others must know of a stack.

    Attributes:
        network: Its VPC; None where it has none.
        source: The branch that it follows; None where it has a Git server of its own.
        has_releases: Whether its settings have a section `release`.
        after: The stack whose releases are promoted into it; None where they are built for it.
        architecture: That of its processors; None where it is that of whichever machine is there.
        has_gpus: Whether it has nodes with GPUs.
    """

    network: IPv4Network | None = None
    source: Source | None = None
    has_releases: bool = False
    after: str | None = None
    architecture: str | None = None
    has_gpus: bool = False


StackSummaries = Mapping[str, StackSummary]


def line(stack: str, stacks: StackSummaries) -> Sequence[str]:
    """Return a stack, the one that its releases come from, and so on up to the first; a circle ends where it closes."""
    found = [stack]
    while (before := stacks[found[-1]].after) and before in stacks and before not in found:
        found.append(before)
    return found


def chain(stack: str, stacks: StackSummaries) -> Sequence[str]:
    """Return the stacks that run the same images, itself among them: all whose releases begin in the same stack."""
    if not stacks[stack].has_releases:
        return [stack]
    first = line(stack, stacks)[-1]
    return [name for name, other in stacks.items() if other.has_releases and line(name, stacks)[-1] == first]
