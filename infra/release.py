"""The record of a release, as it stands in `releases/<stack>.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Record(BaseModel):
    """What all parts of a record have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ReleasedImage(Record):
    """An image as a registry has it."""

    repository: str
    """Its name there, without a tag."""
    tag: str
    """The tag that follows from what it is made of."""
    digest: Digest
    """The digest of its manifest: the same in every stack that the release comes into."""

    @property
    def name(self) -> str:
        """The full name; the digest decides, the tag is for people."""
        return f"{self.repository}:{self.tag}@{self.digest}"


class Chart(Record):
    """The archive of Airflow's Helm chart."""

    version: str
    sha256: str


class Release(Record):
    """What runs in a stack, or is to run there."""

    stack: str
    """The stack."""
    commit: Commit
    """The commit of the stack's branch: program, values, settings and DAGs."""
    dags: Commit
    """The Git tree of the DAGs' folder in that commit."""
    chart: Chart
    """The chart."""
    airflow_version: str
    """The version of Airflow in the image `airflow`."""
    database_revisions: Mapping[str, str]
    """The revision that each table of migrations has after it, as images/airflow/bin/revisions.py prints them."""
    images: Mapping[str, ReleasedImage]
    """The images by the names of their folders under images/."""
    promoted_from: str | None = None
    """The stack that it came from; None where it was built in this one."""
    recorded_at: datetime
    """When it was built, promoted or rolled back to, in UTC."""
    deployed_at: datetime | None = None
    """When it was deployed and had passed the smoke test, in UTC; None before."""
    forced_by: str | None = None
    """Who deployed it past the checks of `make deploy`, and why; None where they were passed."""

    @property
    def short(self) -> str:
        """The commit, as long as people read it."""
        return self.commit[:12]

    def runs_as(self, other: Release) -> bool:
        """Say whether both are the same program, values, DAGs and images, in whichever stacks."""
        digests, others = ({name: image.digest for name, image in one.images.items()} for one in (self, other))
        return self.commit == other.commit and digests == others
