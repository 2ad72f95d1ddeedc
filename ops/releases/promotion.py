"""Promote the release of a stack to the next one: read and check everything first, then change all with one push.

An interrupted promotion leaves at most unused images behind. Run it again to continue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from infra.errors import OperationError
from infra.release import Release
from infra.settings import ExistingClusterSettings, ReleaseSettings, SettingsError, load
from ops.console import Echo
from ops.pulumi.deployment import has_key
from ops.releases.chain import check_adjacent, dag_settings, release_settings
from ops.releases.clone import Clone
from ops.releases.database import migrates
from ops.releases.gates import Facts, Gate, gates
from ops.releases.git_preconditions import behind, commits, uncommitted
from ops.releases.images import Images, missing, unsigned
from ops.releases.ledger import Ledger
from ops.releases.transition import Transition, open_transition

CONFIRMED = "migration"


@contextmanager
def promotion(clone: Clone, source: str, target: str) -> Iterator[Transition]:
    """Gather everything needed to promote a release to the next stack.

    Raises:
        OperationError: The stacks are not adjacent, the source has no release, or the remote cannot be read.
        SettingsError: The settings are invalid.
    """
    check_adjacent(source, target, clone.folder)
    settings = load(target, clone.folder)
    branches = [dag_settings(source, load(source, clone.folder)).branch, dag_settings(target, settings).branch]
    here = clone.branch()
    ledger = Ledger(clone, *branches, *([here] if here else []))
    release = ledger.release(source)
    if release is None:
        raise OperationError(
            f"{source} has no release: run `make deploy STACK={source}`, `make smoke STACK={source}`, then `make "
            f"release STACK={source}`"
        )
    with open_transition(ledger, target, settings, release) as transition:
        yield transition


def promote(transition: Transition, images: Images, echo: Echo, confirm: str | None = None) -> None:
    """Copy the images, then move the branch and write the record atomically.

    Raises:
        OperationError: A check refuses the promotion, or something changed meanwhile.
    """
    source, target = transition.release.stack, transition.stack
    if transition.arrived:
        echo(f"{target} already has {transition.release.short}, the release of {source}")
        return
    transition.clone.identity()
    for sentence in refusals(transition, images, confirm):
        raise OperationError(sentence)
    promoted = _copied(transition, images, echo)
    transition.ledger.put_release(
        promoted, transition.present, f"Promote {promoted.short} from {source} to {target}", transition.move
    )
    echo(
        f"promoted {promoted.short} from {source} to {target}: its DAGs run within seconds, deploy the rest with `make "
        f"deploy STACK={target}` on {transition.branch}"
    )


def refusals(transition: Transition, images: Images, confirm: str | None) -> Iterator[str]:
    """Yield why the promotion is refused, cheap checks first."""
    clone, heads = transition.clone, transition.ledger.heads
    here = clone.branch()
    source_branch = dag_settings(transition.release.stack, load(transition.release.stack, clone.folder)).branch
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: uncommitted(clone),
        lambda: behind(clone, here, heads.get(here or "")),
        lambda: _left_behind(clone, transition.release, source_branch, heads.get(source_branch)),
        lambda: _not_forward(transition),
        lambda: _without_key(transition),
        lambda: _migration(transition, confirm),
        lambda: _missing(transition, images),
    )
    yield from filter(None, (check() for check in checks))
    failed = [gate for gate in states(transition, images) if not gate.passed]
    yield from (f"gate {gate.name} of {transition.stack} not passed: {gate.reason}: {gate.fix}" for gate in failed)


def states(transition: Transition, images: Images) -> list[Gate]:
    """Return the state of each gate of the stack for the release."""
    rules = rules_of(transition)
    asked = rules.gates
    increase: float | None = 0
    if asked.max_cost_increase_usd is not None and transition.infrastructure:
        increase = transition.infrastructure.increase
    facts = Facts(
        release=transition.release,
        target=transition.stack,
        present=transition.present,
        before=transition.before,
        now=datetime.now(UTC),
        evidence=transition.ledger.evidence(transition.release.commit),
        dag_errors=transition.dags.errors if asked.dag_integrity else {},
        cost_increase=increase,
        unsigned=unsigned(images, transition.release, rules.signed_by) if rules.signed_by else {},
    )
    return list(gates(rules, facts))


def rules_of(transition: Transition) -> ReleaseSettings:
    """Return the stack's gates from the release's own commit, not from the working tree.

    Raises:
        OperationError: This version cannot read the settings of that commit.
    """
    try:
        return release_settings(transition.stack, load(transition.stack, transition.files))
    except SettingsError as error:
        raise OperationError(
            f"the settings of {transition.stack} in {transition.release.short} are invalid for this version ({error}): "
            f"run `git checkout {transition.release.short}`, then rerun this command"
        ) from error


def _left_behind(clone: Clone, release: Release, branch: str, head: str | None) -> str | None:
    if head and clone.is_ancestor(release.commit, head):
        return None
    return (
        f"{branch} no longer contains {release.short}, the release of {release.stack}: release its current commit with "
        f"`make deploy STACK={release.stack}`, then `make release STACK={release.stack}`"
    )


def _not_forward(transition: Transition) -> str | None:
    head, release, clone, branch = transition.head, transition.release, transition.clone, transition.branch
    commit = release.commit
    if head is None or clone.is_ancestor(head, commit):
        return None
    own = clone.between(commit, head)
    if clone.is_ancestor(commit, head):
        return (
            f"{branch} is {commits(len(own))} ahead of {release.short}, the release of {release.stack}: release a "
            f"newer commit there, or roll back with `make rollback STACK={transition.stack} TO={release.short}`"
        )
    return (
        f"{branch} has diverged from {release.short}, the release of {release.stack}, with the commits "
        f"{'; '.join(own[:3])}: merge them into the first branch of the chain and release them there, then remove them "
        f"with `git push --force-with-lease={branch}:{head} {clone.remote} {transition.before}:{branch}`"
    )


def _without_key(transition: Transition) -> str | None:
    """Refuse a release whose stack file lacks the key, with which it could not be deployed."""
    release, stack, file = transition.release, transition.stack, transition.files / f"Pulumi.{transition.stack}.yaml"
    if isinstance(transition.settings, ExistingClusterSettings) or has_key(file):
        return None
    return (
        f"{file.name} in {release.short}, the release of {release.stack}, lacks the stack's encrypted key: run `make "
        f"bootstrap STACK={stack}`, commit the file to the first branch of the chain, and release that commit"
    )


def _migration(transition: Transition, confirm: str | None) -> str | None:
    found = migrates(transition.present, transition.release) if transition.present else None
    if found is None or confirm == CONFIRMED:
        return None
    return f"{found}: check that {transition.stack} has a backup, then set CONFIRM={CONFIRMED}"


def _missing(transition: Transition, images: Images) -> str | None:
    source = transition.release.stack
    found = missing(images.registry_of(source, load(source, transition.clone.folder)), transition.release)
    return found and f"{found}: rebuild them with `make images STACK={source}`, then record the release again"


def _copied(transition: Transition, images: Images, echo: Echo) -> Release:
    source, target = transition.release.stack, transition.stack
    from_registry, to_registry = (
        images.registry_of(stack, load(stack, transition.clone.folder)) for stack in (source, target)
    )
    copied = {
        name: images.copy(from_registry, to_registry, image, name, echo)
        for name, image in transition.release.images.items()
    }
    return transition.release.model_copy(
        update={
            "stack": target,
            "images": copied,
            "promoted_from": source,
            "recorded_at": datetime.now(UTC).replace(microsecond=0),
            "deployed_at": None,
            "forced_by": None,
        }
    )
