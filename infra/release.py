"""The record of a release, as stored in `releases/<stack>.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Record(BaseModel):
    """The base class of all parts of a record."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ReleasedImage(Record):
    """An image in a registry."""

    repository: str
    """The image's repository, without a tag."""
    tag: str
    """The tag derived from the image's content."""
    digest: Digest
    """The digest of the manifest; the same in every stack that the release is promoted to."""

    @property
    def name(self) -> str:
        """The full name; the digest identifies the image, the tag is informational."""
        return f"{self.repository}:{self.tag}@{self.digest}"


class Chart(Record):
    """The archive of Airflow's Helm chart."""

    version: str
    sha256: str


class Release(Record):
    """A release that runs in a stack, or is about to be deployed there."""

    stack: str
    """The stack."""
    commit: Commit
    """The commit of the stack's branch, with the program, Helm values, settings and DAGs."""
    dags: Commit
    """The Git tree of the DAGs folder in that commit."""
    chart: Chart
    """The chart."""
    airflow_version: str
    """The version of Airflow in the image `airflow`."""
    database_revisions: Mapping[str, str]
    """The migration revision of each version table, as images/airflow/bin/revisions.py prints them."""
    images: Mapping[str, ReleasedImage]
    """The images by the names of their folders under images/."""
    promoted_from: str | None = None
    """The stack that the release was promoted from; None if it was built for this stack."""
    recorded_at: datetime
    """When the release was built, promoted or rolled back to, in UTC."""
    deployed_at: datetime | None = None
    """When the release was deployed and passed the smoke test, in UTC; None until then."""
    forced_by: str | None = None
    """Who skipped the checks of `make deploy`, and why; None if they passed."""

    @property
    def short(self) -> str:
        """The abbreviated commit."""
        return self.commit[:12]

    def runs_as(self, other: Release) -> bool:
        """Return whether both releases have the same commit and the same images; their stacks may differ."""
        digests, others = ({name: image.digest for name, image in one.images.items()} for one in (self, other))
        return self.commit == other.commit and digests == others
