"""What changes in a stack with another release: infrastructure, settings, values, images, DAGs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import helm_values
from infra.documents import read_yaml
from infra.errors import OperationError
from infra.release import Release
from ops.plan.against import recording_of
from ops.plan.difference import Change, changes
from ops.plan.plan import Comparison, Plan, comparison, plan_of
from ops.plan.recording import StackFile
from ops.releases.clone import Clone
from ops.releases.dags import DagDifference, Dags, dag_difference


@dataclass(frozen=True)
class Infrastructure:
    """The plan of the new commit, compared with that of the old one."""

    plan: Plan
    comparison: Comparison

    @property
    def increase(self) -> float | None:
        """The increase of the monthly cost in USD, at the stated load; None if prices are unknown."""
        if not self.plan.recording.region:
            return 0  # an existing cluster is not part of the bill
        if self.plan.bill.missing or self.comparison.bill.missing:
            return None
        return self.plan.bill.total.load - self.comparison.bill.total.load


@dataclass(frozen=True)
class Difference:
    """What changes in a stack.

    Attributes:
        infrastructure: The resources; None if there is nothing to compare with.
        settings: The changes in the stack file.
        values: The changes in the chart's values.
        images: The changed tags and digests of the images.
        dags: The changes of the DAGs.
    """

    infrastructure: Infrastructure | None
    settings: tuple[Change, ...]
    values: tuple[Change, ...]
    images: tuple[Change, ...]
    dags: DagDifference


def infrastructure(clone: Clone, stack: str, before: str, after: str) -> Infrastructure:
    """Compare the resources of a stack at two commits.

    Raises:
        OperationError: One of the commits cannot be planned.
    """
    try:
        older, newer = (recording_of(commit, stack, clone.folder) for commit in (before, after))
        plan = plan_of(newer)
        return Infrastructure(plan, comparison(plan, before[:12], older))
    except OperationError as error:
        raise OperationError(f"the changes in {stack} cannot be determined: {error}") from error


def settings_changes(stack: str, before: Path | None, after: Path) -> tuple[Change, ...]:
    """Compare the stack file in two commits."""
    return tuple(changes(_config(stack, before) if before else {}, _config(stack, after)))


def values_changes(stack: str, before: Path | None, after: Path) -> tuple[Change, ...]:
    """Compare the chart's values for a stack in two commits."""
    return tuple(changes(_values(stack, before) if before else {}, _values(stack, after)))


def image_changes(before: Release | None, after: Release) -> tuple[Change, ...]:
    """Compare the images of two releases: their tags, and their digests."""
    return tuple(changes(_images(before) if before else {}, _images(after)))


def dag_changes(before: Dags | None, after: Dags) -> DagDifference:
    """Compare the DAGs of two commits."""
    return dag_difference(before or Dags(), after)


def _config(stack: str, tree: Path) -> Mapping[str, Any]:
    file = tree / f"Pulumi.{stack}.yaml"
    return dict(read_yaml(file, StackFile).config or {}) if file.is_file() else {}


def _values(stack: str, tree: Path) -> Mapping[str, Any]:
    return helm_values.stack_values(stack, folder=tree / "helm-values")


def _images(release: Release) -> Mapping[str, str]:
    return {name: f"{image.tag}@{image.digest}" for name, image in release.images.items()}
