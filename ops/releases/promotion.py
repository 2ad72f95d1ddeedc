"""Bring the release of a stack into the next one: everything is read and checked first, then one push moves all of it.

A promotion that is killed leaves at most images that nobody uses yet; run again, it goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from infra.errors import OperationError
from infra.release import Release
from infra.settings import ReleaseSettings, SettingsError, load
from ops.console import Echo
from ops.releases.chain import check_neighbours, dag_settings, release_settings
from ops.releases.clone import Clone
from ops.releases.database import migrates
from ops.releases.gates import Facts, Gate, gates
from ops.releases.git_preconditions import behind, commits, uncommitted
from ops.releases.images import Images, missing, unsigned
from ops.releases.ledger import Ledger
from ops.releases.transition import Transition, transition

CONFIRMED = "migration"


@contextmanager
def promotion(clone: Clone, source: str, target: str) -> Iterator[Transition]:
    """Read all that there is to know of the way of a stack's release into the next stack.

    Raises:
        OperationError: The stacks are no neighbours, the source has no release, or the remote cannot be read.
        SettingsError: Settings are wrong.
    """
    check_neighbours(source, target, clone.folder)
    settings = load(target, clone.folder)
    branches = [dag_settings(source, load(source, clone.folder)).branch, dag_settings(target, settings).branch]
    here = clone.branch()
    ledger = Ledger(clone, *branches, *([here] if here else []))
    release = ledger.release(source)
    if release is None:
        raise OperationError(
            f"{source} has no release: `make deploy STACK={source}`, `make smoke STACK={source}`, then `make release "
            f"STACK={source}`"
        )
    with transition(ledger, target, settings, release) as way:
        yield way


def promote(way: Transition, images: Images, echo: Echo, confirm: str | None = None) -> None:
    """Copy the images, then move the branch and write the record, both or neither.

    Raises:
        OperationError: Something is in the way, or changed meanwhile.
    """
    source, target = way.release.stack, way.stack
    if way.arrived:
        echo(f"{target} has {way.release.short}, the release of {source}, already")
        return
    way.clone.identity()
    for sentence in refusals(way, images, confirm):
        raise OperationError(sentence)
    promoted = _copied(way, images, echo)
    way.ledger.put_release(promoted, way.present, f"Promote {promoted.short} from {source} to {target}", way.move)
    echo(
        f"{target} gets {promoted.short} of {source}: its DAGs within seconds, the rest with `make deploy "
        f"STACK={target}` on {way.branch}"
    )


def refusals(way: Transition, images: Images, confirm: str | None) -> Iterator[str]:
    """Yield what is in the way, the cheapest to find out first."""
    clone, heads = way.clone, way.ledger.heads
    here = clone.branch()
    source_branch = dag_settings(way.release.stack, load(way.release.stack, clone.folder)).branch
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: uncommitted(clone),
        lambda: behind(clone, here, heads.get(here or "")),
        lambda: _left_behind(clone, way.release, source_branch, heads.get(source_branch)),
        lambda: _not_forward(way),
        lambda: _migration(way, confirm),
        lambda: _missing(way, images),
    )
    yield from filter(None, (check() for check in checks))
    failed = [gate for gate in states(way, images) if not gate.passed]
    yield from (f"{way.stack} asks for {gate.name}: {gate.reason}: {gate.fix}" for gate in failed)


def states(way: Transition, images: Images) -> list[Gate]:
    """Return how the release stands before each gate of the stack."""
    rules = rules_of(way)
    asked = rules.gates
    increase: float | None = 0
    if asked.max_cost_increase_usd is not None and way.infrastructure:
        increase = way.infrastructure.increase
    facts = Facts(
        release=way.release,
        target=way.stack,
        present=way.present,
        before=way.before,
        now=datetime.now(UTC),
        evidence=way.ledger.evidence(way.release.commit),
        dag_errors=way.dags.errors if asked.dag_integrity else {},
        cost_increase=increase,
        unsigned=unsigned(images, way.release, rules.signed_by) if rules.signed_by else {},
    )
    return list(gates(rules, facts))


def rules_of(way: Transition) -> ReleaseSettings:
    """Return the stack's gates as the release's own commit has them, whatever is checked out here.

    Raises:
        OperationError: This clone's program cannot read them.
    """
    try:
        return release_settings(way.stack, load(way.stack, way.files))
    except SettingsError as error:
        raise OperationError(
            f"the settings of {way.stack} in {way.release.short} are not as this clone's program reads them ({error}): "
            f"`git checkout {way.release.short}`, then run the same command again"
        ) from error


def _left_behind(clone: Clone, release: Release, branch: str, head: str | None) -> str | None:
    if head and clone.is_ancestor(release.commit, head):
        return None
    return (
        f"{branch} has diverged from the release of {release.stack}, {release.short}, which it no longer holds: "
        f"release what it holds (`make deploy STACK={release.stack}`, then `make release STACK={release.stack}`)"
    )


def _not_forward(way: Transition) -> str | None:
    head, commit, clone = way.head, way.release.commit, way.clone
    if head is None or clone.is_ancestor(head, commit):
        return None
    own = clone.between(commit, head)
    if clone.is_ancestor(commit, head):
        return (
            f"{way.branch} is {commits(len(own))} ahead of {way.release.short}, the release of {way.release.stack}: "
            f"release a newer commit there, or go back with `make rollback STACK={way.stack} TO={way.release.short}`"
        )
    return (
        f"{way.branch} has diverged from the release of {way.release.stack}, {way.release.short}: it alone has "
        f"{'; '.join(own[:3])}; bring that into the first branch of the chain and release it there, then take it off "
        f"with `git push --force-with-lease={way.branch}:{head} {clone.remote} {way.before}:{way.branch}`"
    )


def _migration(way: Transition, confirm: str | None) -> str | None:
    found = migrates(way.present, way.release) if way.present else None
    if found is None or confirm == CONFIRMED:
        return None
    return f"{found}: see that {way.stack} has a backup, then give CONFIRM={CONFIRMED}"


def _missing(way: Transition, images: Images) -> str | None:
    source = way.release.stack
    found = missing(images.registry_of(source, load(source, way.clone.folder)), way.release)
    return found and f"{found}: bring them back with `make images STACK={source}`, and release that anew"


def _copied(way: Transition, images: Images, echo: Echo) -> Release:
    source, target = way.release.stack, way.stack
    there, here = (images.registry_of(stack, load(stack, way.clone.folder)) for stack in (source, target))
    copied = {name: images.copy(there, here, image, name, echo) for name, image in way.release.images.items()}
    return way.release.model_copy(
        update={
            "stack": target,
            "images": copied,
            "promoted_from": source,
            "recorded_at": datetime.now(UTC).replace(microsecond=0),
            "deployed_at": None,
            "forced_by": None,
        }
    )
