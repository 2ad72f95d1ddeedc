"""Summaries of stacks for checks across stacks: networks, branches and the promotion chain."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from urllib.parse import urlsplit

# `git@host:path`, the short form of an SSH URL: https://git-scm.com/docs/git-clone#_git_urls
SHORT_SSH = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>[^/:@]+):(?P<path>[^/].*|/(?!/).*)")


@dataclass(frozen=True)
class Source:
    """A branch of a repository, independent of the form of the repository's address."""

    repository: str
    branch: str

    @classmethod
    def of(cls, repository: str, branch: str) -> Source:
        """Normalize an address to the form `host/path`."""
        short = SHORT_SSH.fullmatch(repository)
        parts = urlsplit(repository)
        address = f"{short['host']}/{short['path']}" if short else f"{parts.hostname}{parts.path}"
        return cls(address.lower().rstrip("/").removesuffix(".git"), branch)


@dataclass(frozen=True)
class StackSummary:
    """The properties of a stack that checks on other stacks use.

    Attributes:
        network: The address range of its VPC; None outside AWS.
        source: The branch that it follows; None if it has its own Git server.
        has_releases: Whether its settings have a section `release`.
        after: The previous stack of its promotion chain; None for the first stack.
        architecture: The processor architecture of its nodes; None if its settings do not say.
        has_gpus: Whether it has nodes with GPUs.
    """

    network: IPv4Network | None = None
    source: Source | None = None
    has_releases: bool = False
    after: str | None = None
    architecture: str | None = None
    has_gpus: bool = False


StackSummaries = Mapping[str, StackSummary]


def lineage(stack: str, stacks: StackSummaries) -> Sequence[str]:
    """Return a stack and its predecessors in the promotion chain, up to the first; a cycle ends where it closes."""
    found = [stack]
    while (before := stacks[found[-1]].after) and before in stacks and before not in found:
        found.append(before)
    return found


def chain(stack: str, stacks: StackSummaries) -> Sequence[str]:
    """Return all stacks of a stack's promotion chain, including itself: they run the same images."""
    if not stacks[stack].has_releases:
        return [stack]
    first = lineage(stack, stacks)[-1]
    return [name for name, other in stacks.items() if other.has_releases and lineage(name, stacks)[-1] == first]
