"""Record what a stack runs: the release built for the first stack, or the deployment of a promoted release."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from infra.airflow import chart
from infra.errors import OperationError
from infra.images.nodes import nodes_of
from infra.release import Chart, Release
from infra.settings import StackSettings, load
from ops.console import Echo
from ops.images.registries import built_images
from ops.releases import database
from ops.releases.chain import dag_settings, previous, release_settings
from ops.releases.clone import Clone
from ops.releases.git_preconditions import not_at_branch_head
from ops.releases.images import Images
from ops.releases.ledger import Ledger


def record(clone: Clone, stack: str, images: Images, echo: Echo) -> None:
    """Record that a stack was deployed from this commit and passed the smoke test.

    Raises:
        OperationError: The clone is not at the head of the stack's branch, images are missing, or the record cannot be
            written.
        SettingsError: The settings are invalid.
    """
    settings = load(stack, clone.folder)
    first = release_settings(stack, settings).after is None
    branch = dag_settings(stack, settings).branch
    ledger = Ledger(clone, branch)
    if sentence := not_at_branch_head(clone, stack, branch, ledger.heads.get(branch), takes_pushes=first):
        raise OperationError(sentence)
    present = ledger.release(stack)
    release = built(clone, stack, settings, images) if first else promoted(clone, stack, present)
    if present and present.deployed_at and present.runs_as(release):
        echo(f"{release.short} is already recorded in {stack} since {present.deployed_at:%Y-%m-%d %H:%M} UTC")
        return
    release = release.model_copy(update={"deployed_at": _now(), "forced_by": None})
    ledger.put_release(release, present, f"{release.short} runs in {stack}")
    echo(f"{release.short} is the release of {stack}")


def built(clone: Clone, stack: str, settings: StackSettings, images: Images) -> Release:
    """Return the release of the checked-out commit, with the images in the stack's registry.

    Raises:
        OperationError: Images are missing, or the environment has other versions than the images.
    """
    commit, registry = clone.head(), images.registry_of(stack, settings)
    found = built_images(registry, nodes_of(stack, clone.folder))
    return Release(
        stack=stack,
        commit=commit,
        dags=clone.tree(commit, dag_settings(stack, settings).folder),
        chart=Chart(version=chart.VERSION, sha256=chart.SHA256),
        airflow_version=airflow_version(clone),
        database_revisions=database.revisions(),
        images=found,
        recorded_at=_now(),
    )


def promoted(clone: Clone, stack: str, present: Release | None) -> Release:
    """Return the record of a stack to which releases are promoted.

    Raises:
        OperationError: The stack has no record, or another commit is checked out.
    """
    if present is None:
        before = previous(stack, clone.folder)
        raise OperationError(
            f"no release was promoted to {stack} yet: run `make promote FROM={before} TO={stack}` first"
        )
    if present.commit != (head := clone.head()):
        raise OperationError(
            f"the release of {stack} is {present.short}, but {head[:12]} is checked out: move the branch and the "
            "record together with `make promote` or `make rollback`"
        )
    return present


def airflow_version(clone: Clone) -> str:
    """Return the version of Airflow in the image.

    Raises:
        OperationError: The requirements do not pin Airflow.
    """
    pin = re.search(
        r"^apache-airflow==(\S+)", (clone.folder / "requirements" / "airflow.txt").read_text(), re.MULTILINE
    )
    if pin is None:
        raise OperationError("requirements/airflow.txt does not pin apache-airflow: run `make requirements`")
    return pin[1]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
