"""Bring a stack back to an earlier release: its branch and its record, both or neither."""

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
from ops.releases.transition import Transition, transition

CONFIRMED = "database"
# A commit, or its beginning.
COMMIT = re.compile(r"[0-9a-f]{1,40}", re.IGNORECASE)


@contextmanager
def way_back(clone: Clone, stack: str, to: str | None) -> Iterator[Transition]:
    """Read all that there is to know of a stack's way back to a release of its history.

    Args:
        clone: The clone.
        stack: The stack.
        to: The beginning of the release's commit; without it the one that ran before.

    Raises:
        OperationError: There is no such release, or the remote cannot be read.
        SettingsError: Settings are wrong.
    """
    settings = load(stack, clone.folder)
    release_settings(stack, settings)
    ledger = Ledger(clone, dag_settings(stack, settings).branch)
    with transition(ledger, stack, settings, chosen(stack, ledger.history(stack), to)) as way:
        yield way


def chosen(stack: str, history: Sequence[Entry], to: str | None) -> Release:
    """Return the release to go back to, out of a stack's history.

    Raises:
        OperationError: There is none, or several are meant.
    """
    if to and not COMMIT.fullmatch(to):
        raise OperationError(
            f"{to!r} is not a commit: give its first hexadecimal digits, as `make releases STACK={stack}` lists them"
        )
    if not history:
        raise OperationError(f"{stack} has no release, so there is nothing to go back to")
    releases = [entry.release for entry in history]
    return _named(stack, releases, to) if to else _before(stack, releases)


def roll_back(way: Transition, images: Images, echo: Echo, confirm: str | None = None) -> None:
    """Move the branch back and write the record.

    Raises:
        OperationError: Something is in the way, or changed meanwhile.
    """
    if way.arrived:
        echo(f"{way.stack} has {way.release.short} already")
        return
    for sentence in refusals(way, images, confirm):
        raise OperationError(sentence)
    update = {"recorded_at": datetime.now(UTC).replace(microsecond=0), "deployed_at": None, "forced_by": None}
    release = way.release.model_copy(update=update)
    way.ledger.put_release(release, way.present, f"Roll {way.stack} back to {release.short}", way.move)
    echo(
        f"{way.stack} goes back to {release.short}: its DAGs within seconds, the rest with `make deploy "
        f"STACK={way.stack}` on {way.branch}"
    )


def refusals(way: Transition, images: Images, confirm: str | None) -> Iterator[str]:
    """Yield what is in the way, the cheapest to find out first."""
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: _lost(way),
        lambda: _incompatible(way, confirm),
        lambda: _missing(way, images),
    )
    yield from filter(None, (check() for check in checks))


def _named(stack: str, releases: Sequence[Release], to: str) -> Release:
    meant = [release for release in releases if release.commit.startswith(to.lower())]
    if not meant:
        raise OperationError(f"{stack} never had a release {to}: choose one that `make releases STACK={stack}` lists")
    if len(commits := dict.fromkeys(release.short for release in meant)) > 1:
        raise OperationError(f"{to} is the beginning of {', '.join(commits)}: give more of it")
    found = _deployed(releases, meant[0])
    if found is None:
        raise OperationError(
            f"{meant[0].short} never ran in {stack}: choose one that `make releases STACK={stack}` lists as deployed"
        )
    return found


def _before(stack: str, releases: Sequence[Release]) -> Release:
    """Return the newest release that ran before the present one first came, so that a second rollback goes on back."""
    present = releases[0]
    first_time = max(index for index, release in enumerate(releases) if release.runs_as(present))
    for release in releases[first_time + 1 :]:
        if found := _deployed(releases, release):
            return found
    raise OperationError(
        f"no release ran in {stack} before {present.short}: mend what is wrong in a commit on top, and release that"
    )


def _deployed(releases: Sequence[Release], wanted: Release) -> Release | None:
    """Return a record of a release that says when it ran in the stack; None where it never did."""
    return next((one for one in releases if one.runs_as(wanted) and one.deployed_at), None)


def _lost(way: Transition) -> str | None:
    """See that the branch holds nothing but releases: what came after the present one would be in no branch."""
    head, present, clone = way.head, way.present, way.clone
    if head is None or present is None or head in (present.commit, way.release.commit):
        return None
    own = "; ".join(clone.between(present.commit, head)[:3]) or f"{head[:12]}, older than the release"
    lease = f"git push --force-with-lease={way.branch}:{head} {clone.remote} {present.commit}:{way.branch}"
    return (
        f"{way.branch} is not at the release of {way.stack}, {present.short}, but has {own}: take back what is wrong "
        f"with `git revert`, or take all of it off the branch with `{lease}`, then run the same command again"
    )


def _incompatible(way: Transition, confirm: str | None) -> str | None:
    found = incompatible(way.present, way.release) if way.present else None
    return None if found is None or confirm == CONFIRMED else f"{found}, then give CONFIRM={CONFIRMED}"


def _missing(way: Transition, images: Images) -> str | None:
    found = missing(images.registry_of(way.stack, way.settings), way.release)
    return found and f"{found}: choose another release of `make releases STACK={way.stack}` with TO="
