"""A stack's transition from its current release to another: everything that is read before anything is changed."""

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
    """A stack's transition to another release.

    Attributes:
        clone: The clone.
        ledger: The records.
        stack: The stack.
        settings: The stack's settings in the working tree.
        present: The stack's record; None if it has none.
        release: The record of the new release, from any stack.
        folder: A temporary folder for the files of both commits.
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
        """The files of the new release."""
        return self.folder / "after"

    @property
    def head(self) -> str | None:
        """The commit of the stack's branch; None if the remote does not have the branch."""
        return self.ledger.heads.get(self.branch)

    @property
    def before(self) -> str | None:
        """The current commit of the stack; None if it has none."""
        return self.present.commit if self.present else self.head

    @property
    def arrived(self) -> bool:
        """Whether the stack already has the release."""
        return self.present is not None and self.present.runs_as(self.release) and self.head == self.release.commit

    @property
    def move(self) -> Move | None:
        """The move of the branch; None if it is already at the release."""
        return None if self.head == self.release.commit else Move(self.branch, self.head, self.release.commit)

    @cached_property
    def dags(self) -> Dags:
        """The DAGs of the new release."""
        return self._dags(self.release.commit, self.files)

    @cached_property
    def infrastructure(self) -> Infrastructure | None:
        """The resources of the new release, compared with the current ones; None if there are none to compare."""
        if self.before is None:
            return None
        return difference.infrastructure(self.clone, self.stack, self.before, self.release.commit)

    @cached_property
    def difference(self) -> Difference:
        """Everything that changes in the stack."""
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
def open_transition(ledger: Ledger, stack: str, settings: StackSettings, release: Release) -> Iterator[Transition]:
    """Gather everything needed to move a stack to a release.

    Raises:
        OperationError: The release's commit no longer exists.
    """
    clone = ledger.clone
    clone.ensure(release.commit)
    with tempfile.TemporaryDirectory() as folder:
        transition = Transition(clone, ledger, stack, settings, ledger.release(stack), release, Path(folder))
        clone.extract(release.commit, transition.files)
        yield transition
