"""A stack's way from the release that it has to another: all that is read before anything is changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from infra.release import Release
from infra.settings import StackSettings
from ops.releases import difference
from ops.releases.chain import dag_settings
from ops.releases.clone import Clone, Move
from ops.releases.dags import Dags, dags_of
from ops.releases.difference import Difference, Infrastructure
from ops.releases.ledger import Ledger


@dataclass(frozen=True)
class Transition:
    """The way of one stack.

    Attributes:
        clone: The clone.
        ledger: The records.
        stack: The stack.
        settings: Its settings, as they lie here.
        present: Its record; None where it has none.
        release: The record of the release that is to come, in whichever stack it is.
        folder: Holds the files of commits.
    """

    clone: Clone
    ledger: Ledger
    stack: str
    settings: StackSettings
    present: Release | None
    release: Release
    folder: Path

    @property
    def branch(self) -> str:
        """The stack's branch."""
        return dag_settings(self.stack, self.settings).branch

    @property
    def files(self) -> Path:
        """The files of the release."""
        return self.folder / "after"

    @property
    def head(self) -> str | None:
        """Where the stack's branch is; None where the remote has none."""
        return self.ledger.heads.get(self.branch)

    @property
    def before(self) -> str | None:
        """The commit that the stack is at; None where it is at none."""
        return self.present.commit if self.present else self.head

    @property
    def arrived(self) -> bool:
        """Whether the release is in the stack already."""
        return self.present is not None and self.present.runs_as(self.release) and self.head == self.release.commit

    @property
    def move(self) -> Move | None:
        """What the branch has to do; None where it is there."""
        return None if self.head == self.release.commit else Move(self.branch, self.head, self.release.commit)

    @cached_property
    def dags(self) -> Dags:
        """The DAGs of the release."""
        return self._dags(self.release.commit, self.files)

    @cached_property
    def infrastructure(self) -> Infrastructure | None:
        """The stack's resources, beside those that it has; None where there is nothing to compare with."""
        if self.before is None:
            return None
        return difference.infrastructure(self.clone, self.stack, self.before, self.release.commit)

    @cached_property
    def difference(self) -> Difference:
        """All that the stack gets."""
        older = self._files_before()
        dags_before = self._dags(self.before, older) if self.before and older else None
        return Difference(
            self.infrastructure,
            difference.settings_changes(self.stack, older, self.files),
            difference.values_changes(self.stack, older, self.files),
            difference.image_changes(self.present, self.release),
            difference.dag_changes(dags_before, self.dags),
        )

    def _files_before(self) -> Path | None:
        if self.before is None:
            return None
        folder = self.folder / "before"
        self.clone.extract(self.before, folder)
        return folder

    def _dags(self, commit: str, tree: Path) -> Dags:
        return dags_of(self.clone, commit, dag_settings(self.stack, self.settings).folder, tree)


@contextmanager
def transition(ledger: Ledger, stack: str, settings: StackSettings, release: Release) -> Iterator[Transition]:
    """Read all that there is to know of a stack's way to a release.

    Raises:
        OperationError: The release's commit is nowhere any more.
    """
    clone = ledger.clone
    clone.ensure(release.commit)
    with tempfile.TemporaryDirectory() as folder:
        way = Transition(clone, ledger, stack, settings, ledger.release(stack), release, Path(folder))
        clone.extract(release.commit, way.files)
        yield way
