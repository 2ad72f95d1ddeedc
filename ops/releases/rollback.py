"""Roll a stack back to an earlier release: move its branch and its record atomically."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from infra.errors import OperationError
from infra.release import Release
from infra.settings import load
from ops.console import Echo
from ops.releases.chain import dag_settings, release_settings
from ops.releases.clone import Clone
from ops.releases.database import incompatible
from ops.releases.images import Images, missing
from ops.releases.ledger import Entry, Ledger
from ops.releases.transition import Transition, open_transition

CONFIRMED = "database"
# A commit hash, full or abbreviated.
COMMIT = re.compile(r"[0-9a-f]{1,40}", re.IGNORECASE)


@contextmanager
def rollback_transition(clone: Clone, stack: str, to: str | None) -> Iterator[Transition]:
    """Gather everything needed to roll a stack back to a release in its history.

    Args:
        clone: The clone.
        stack: The stack.
        to: The abbreviated commit of the release; None for the previous release.

    Raises:
        OperationError: The release does not exist, or the remote cannot be read.
        SettingsError: The settings are invalid.
    """
    settings = load(stack, clone.folder)
    release_settings(stack, settings)
    ledger = Ledger(clone, dag_settings(stack, settings).branch)
    with open_transition(ledger, stack, settings, chosen(stack, ledger.history(stack), to)) as transition:
        yield transition


def chosen(stack: str, history: Sequence[Entry], to: str | None) -> Release:
    """Return the release to roll back to, from a stack's history.

    Raises:
        OperationError: No release matches, or several do.
    """
    if to and not COMMIT.fullmatch(to):
        raise OperationError(f"{to!r} is not a commit: use the hash that `make releases STACK={stack}` lists")
    if not history:
        raise OperationError(f"{stack} has no release to roll back to: record one with `make release STACK={stack}`")
    releases = [entry.release for entry in history]
    return _named(stack, releases, to) if to else _before(stack, releases)


def roll_back(transition: Transition, images: Images, echo: Echo, confirm: str | None = None) -> None:
    """Move the branch back and write the record.

    Raises:
        OperationError: A check refuses the rollback, or something changed meanwhile.
    """
    if transition.arrived:
        echo(f"{transition.stack} already has {transition.release.short}")
        return
    for sentence in refusals(transition, images, confirm):
        raise OperationError(sentence)
    update = {"recorded_at": datetime.now(UTC).replace(microsecond=0), "deployed_at": None, "forced_by": None}
    release = transition.release.model_copy(update=update)
    transition.ledger.put_release(
        release, transition.present, f"Roll {transition.stack} back to {release.short}", transition.move
    )
    echo(
        f"rolled {transition.stack} back to {release.short}: its DAGs run within seconds, deploy the rest with `make "
        f"deploy STACK={transition.stack}` on {transition.branch}"
    )


def refusals(transition: Transition, images: Images, confirm: str | None) -> Iterator[str]:
    """Yield why the rollback is refused, cheap checks first."""
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: _lost(transition),
        lambda: _incompatible(transition, confirm),
        lambda: _missing(transition, images),
    )
    yield from filter(None, (check() for check in checks))


def _named(stack: str, releases: Sequence[Release], to: str) -> Release:
    meant = [release for release in releases if release.commit.startswith(to.lower())]
    if not meant:
        raise OperationError(f"{stack} has no release {to}: choose one that `make releases STACK={stack}` lists")
    if len(commits := dict.fromkeys(release.short for release in meant)) > 1:
        raise OperationError(f"{to} is ambiguous, it matches {', '.join(commits)}: use more digits")
    found = _deployed(releases, meant[0])
    if found is None:
        raise OperationError(
            f"{meant[0].short} never ran in {stack}: choose one that `make releases STACK={stack}` lists as deployed"
        )
    return found


def _before(stack: str, releases: Sequence[Release]) -> Release:
    """Return the release that ran before the current one, so that a second rollback continues to the one before."""
    present = releases[0]
    first_time = max(index for index, release in enumerate(releases) if release.runs_as(present))
    for release in releases[first_time + 1 :]:
        if found := _deployed(releases, release):
            return found
    raise OperationError(
        f"no release ran in {stack} before {present.short}: fix the problem in a new commit and release it"
    )


def _deployed(releases: Sequence[Release], wanted: Release) -> Release | None:
    """Return a record of a release with its deployment time; None if the release never ran in the stack."""
    return next((one for one in releases if one.runs_as(wanted) and one.deployed_at), None)


def _lost(transition: Transition) -> str | None:
    """Check that the branch has no commits after the current release: a rollback would drop them."""
    head, present, clone = transition.head, transition.present, transition.clone
    if head is None or present is None or head in (present.commit, transition.release.commit):
        return None
    own = "; ".join(clone.between(present.commit, head)[:3]) or f"{head[:12]}, older than the release"
    lease = (
        f"git push --force-with-lease={transition.branch}:{head} {clone.remote} {present.commit}:{transition.branch}"
    )
    return (
        f"{transition.branch} is not at {present.short}, the release of {transition.stack}, but has {own}: revert the "
        f"commits with `git revert`, or remove them from the branch with `{lease}`, then rerun this command"
    )


def _incompatible(transition: Transition, confirm: str | None) -> str | None:
    found = incompatible(transition.present, transition.release) if transition.present else None
    return None if found is None or confirm == CONFIRMED else f"{found}, then set CONFIRM={CONFIRMED}"


def _missing(transition: Transition, images: Images) -> str | None:
    found = missing(images.registry_of(transition.stack, transition.settings), transition.release)
    return found and f"{found}: set TO to another release that `make releases STACK={transition.stack}` lists"
