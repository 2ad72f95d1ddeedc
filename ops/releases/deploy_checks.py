"""Check before a deployment which release it deploys, and whether it may."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import yaml

from infra.errors import OperationError
from infra.images.pinned import RELEASE_FILE
from infra.release import Release
from infra.settings import StackSettings
from ops.pulumi.deployment import Deployment
from ops.releases.chain import dag_settings
from ops.releases.clone import Clone
from ops.releases.git_preconditions import not_at_branch_head
from ops.releases.images import Images
from ops.releases.ledger import Ledger
from ops.releases.recording import built, promoted

Stack = TypeVar("Stack", bound=Deployment)


def checked_release(
    clone: Clone, stack: str, settings: StackSettings, images: Images, force: str | None = None
) -> Release | None:
    """Return the release that a deployment from this clone deploys; None if the stack has no release.

    Args:
        clone: The clone.
        stack: The stack.
        settings: The settings of the stack.
        images: Access to the registries.
        force: The reason to skip the checks, which is recorded.

    Raises:
        OperationError: The clone is not at the head of the stack's branch, and the checks are not skipped.
    """
    if settings.release is None:
        return None
    branch = dag_settings(stack, settings).branch
    ledger = Ledger(clone, branch)
    present = ledger.release(stack)
    first = settings.release.after is None
    try:
        if sentence := not_at_branch_head(clone, stack, branch, ledger.heads.get(branch), takes_pushes=first):
            raise OperationError(sentence)
        release = None if first else promoted(clone, stack, present)
    except OperationError as error:
        if not force:
            raise OperationError(f'{error}; or skip the checks with FORCE="reason", which is recorded') from None
        _record(ledger, stack, present, force)
        release = present
    return built(clone, stack, settings, images) if first else release


def previewed_release(clone: Clone, stack: str, settings: StackSettings, images: Images) -> Release | None:
    """Return the release that a deployment from this clone would deploy; None if its images are not built yet."""
    if settings.release is None:
        return None
    if settings.release.after:
        return Ledger(clone).release(stack)
    with suppress(OperationError):
        return built(clone, stack, settings, images)
    return None


@contextmanager
def with_release(deployment: Stack, release: Release | None) -> Iterator[Stack]:
    """Yield a deployment whose program finds the record of the release."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "release.yaml"
        if release:
            file.write_text(yaml.safe_dump(release.model_dump(mode="json")))
        environment = {**deployment.environment, RELEASE_FILE: str(file) if release else None}
        yield replace(deployment, environment=environment)


def _record(ledger: Ledger, stack: str, present: Release | None, why: str) -> None:
    """Record a forced deployment. The release no longer counts as deployed."""
    message = f"Deploy {stack} past the checks: {why}"
    if present is None:
        ledger.note(message)
        return
    forced_by = f"{ledger.clone.identity()}, from {ledger.clone.head()[:12]}: {why}"
    ledger.put_release(present.model_copy(update={"forced_by": forced_by, "deployed_at": None}), present, message)
