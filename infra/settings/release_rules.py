"""The rules for release settings: the position of a stack in its promotion chain, and the signature."""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.airflow_names import CPU_POOL
from infra.settings.models import ExistingClusterSettings, GateSettings, ReleaseSettings, Settings
from infra.settings.stack_summaries import Source, StackSummaries, StackSummary, chain, lineage

Mistake = tuple[str, str]


def release_mistakes(
    stack: str, settings: Settings | ExistingClusterSettings, others: StackSummaries
) -> Iterator[Mistake]:
    """Yield all mistakes in a stack's release settings; none if it has no releases."""
    release = settings.release
    if release is None:
        return
    if isinstance(settings, ExistingClusterSettings):
        for key in ("dags", "registry"):
            if getattr(settings, key) is None:
                yield key, "required for a stack with releases: set your own repository and registry"
    yield from _signature(release)
    if release.after is None:
        yield from _first(release)
        return
    if mistake := _misplaced(stack, release.after, others):
        yield "release.after", mistake
        return
    if settings.dags:
        yield from _repository(settings.dags.repository, release.after, others[release.after])
    if isinstance(settings, Settings) and (cpu := settings.node_pools.get(CPU_POOL)):
        own = StackSummary(has_releases=True, after=release.after, architecture=cpu.architecture)
        yield from _architecture(stack, {**others, stack: own})


def _signature(release: ReleaseSettings) -> Iterator[Mistake]:
    if release.signed_by is None:
        return
    try:
        re.compile(release.signed_by)
    except re.error as error:
        yield "release.signed_by", f"{release.signed_by!r} is not a valid regular expression ({error}): correct it"
        return
    if not (release.signed_by.startswith("^") and release.signed_by.endswith("$")):
        yield (
            "release.signed_by",
            f"{release.signed_by!r} also matches identities that only contain it: start it with ^ and end it with $",
        )


def _first(release: ReleaseSettings) -> Iterator[Mistake]:
    if release.signed_by is not None or release.gates != GateSettings():
        yield (
            "release",
            "nothing is promoted to the first stack, so gates and signed_by do not apply: remove both, or set after to "
            "the previous stack",
        )


def _misplaced(stack: str, after: str, others: StackSummaries) -> str | None:
    if after == stack:
        return f"{stack} cannot come after itself: name the previous stack"
    if after not in others:
        known = ", ".join(sorted(name for name, other in others.items() if other.has_releases))
        return f"there is no stack {after}: choose one that has releases{f', such as {known}' if known else ''}"
    if not others[after].has_releases:
        return f"{after} has no releases: add airflow:release to its settings, or name another stack"
    stacks = {**others, stack: StackSummary(after=after)}
    passed = lineage(stack, stacks)
    if closing := stacks[passed[-1]].after:
        return f"{' after '.join([*passed, closing])} never reaches a first stack: correct after in one of them"
    return None


def _repository(repository: str, after: str, before: StackSummary) -> Iterator[Mistake]:
    own = Source.of(repository, "").repository
    if before.source and before.source.repository != own:
        yield (
            "dags.repository",
            f"{own} is not the repository of {after}, {before.source.repository}: releases move between branches of "
            "one repository, so use the same in both",
        )


def _architecture(stack: str, stacks: StackSummaries) -> Iterator[Mistake]:
    own = stacks[stack].architecture
    for name in chain(stack, stacks):
        if stacks[name].architecture not in (None, own):
            yield (
                f"node_pools.{CPU_POOL}.architecture",
                f"{own} differs from {name}, {stacks[name].architecture}: use one architecture, because both run the "
                "same images",
            )
