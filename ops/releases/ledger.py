"""The branch `releases` of the remote: the record of each stack, and the evidence of the gates.

It is a separate branch, because a record in a stack's branch would be a commit that the next stack does not have.
Changes need no work tree: each is a commit on top of the remote's branch, pushed atomically together with the stack's
branch. The history is the audit log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from infra.errors import OperationError
from infra.release import Record, Release
from ops.releases.clone import Clone, Move
from ops.releases.evidence import Evidence, with_latest
from ops.releases.handover import Change

BRANCH = "releases"
HEADER = "# Written by `make release`, `make promote`, `make rollback` and `make gate`, never by hand.\n"
# Wide enough to keep each value on one line: handover.py reads records line by line.
WIDTH = 10_000
# How often to retry on top of concurrent changes.
ATTEMPTS = 10

# Returns a file's new content, given the current one; None means no file.
Edit = Callable[[str | None], str | None]


@dataclass(frozen=True)
class Entry:
    """A record in the history of a stack's records.

    Attributes:
        release: The record.
        by: The author.
        message: The subject of the commit.
    """

    release: Release
    by: str
    message: str


class Ledger:
    """The records as of the last fetch. All methods raise OperationError as Clone does.

    Attributes:
        clone: The clone and its remote.
        heads: The commits of the fetched branches.
    """

    def __init__(self, clone: Clone, *branches: str) -> None:
        """Fetch the records and further branches of the remote."""
        self.clone = clone
        self._branches = (BRANCH, *branches)
        self.heads: Mapping[str, str] = clone.fetch(*self._branches)

    def release(self, stack: str) -> Release | None:
        """Return a stack's record; None if it has none."""
        return _release(stack, self._read(_file(stack)))

    def history(self, stack: str) -> list[Entry]:
        """Return all records in a stack's history, newest first."""
        head = self.heads.get(BRANCH)
        if head is None:
            return []
        log = self.clone.git("log", "--format=%H%x00%an <%ae>%x00%s", head, "--", _file(stack)).splitlines()
        commits = [line.split("\0") for line in log]
        texts = self.clone.read([f"{commit}:{_file(stack)}" for commit, _, _ in commits])
        entries = zip(commits, (_release(stack, text) for text in texts), strict=True)
        return [Entry(release, by, message) for (_, by, message), release in entries if release]

    def evidence(self, commit: str) -> list[Evidence]:
        """Return the evidence of a commit."""
        return _evidence(commit, self._read(_evidence_file(commit)))

    def put_release(self, release: Release, before: Release | None, message: str, move: Move | None = None) -> None:
        """Replace a stack's record and move the stack's branch, atomically.

        Raises:
            OperationError: The record or the branch has changed since it was read.
        """

        def edit(text: str | None) -> str:
            if _release(release.stack, text) != before:
                raise OperationError(self._lost(release.stack))
            return _text(release)

        self._write(_file(release.stack), edit, message, move)

    def put_evidence(self, commit: str, evidence: Evidence) -> None:
        """Add evidence to a commit."""

        def edit(text: str | None) -> str:
            entries = with_latest(_evidence(commit, text), evidence)
            return HEADER + yaml.safe_dump(
                [_plain(entry) for entry in entries], sort_keys=False, width=WIDTH, allow_unicode=True
            )

        result = "passed" if evidence.passed else "failed"
        target = f" for {evidence.stack}" if evidence.stack else ""
        self._write(_evidence_file(commit), edit, f"{commit[:12]} {result} {evidence.gate}{target}")

    def note(self, message: str) -> None:
        """Add a message to the history without changing a record."""
        self._write(None, lambda _: None, message)

    def _write(self, file: str | None, edit: Edit, message: str, move: Move | None = None) -> None:
        for _ in range(ATTEMPTS):
            head = self.heads.get(BRANCH)
            content = edit(self._read(file) if file else None)
            if move and self.heads.get(move.branch) != move.before:
                raise OperationError(self._moved(move))
            if self.clone.change_file:
                self._prepare(self.clone.change_file, file, content, message, move)
                return
            commit = self._commit(head, file, content, message)
            moves = [Move(BRANCH, head, commit), *([move] if move else [])]
            if self.clone.push(*moves):
                return
            self.heads = self.clone.fetch(*self._branches)
        raise OperationError(f"the branch {BRANCH} changed during each of {ATTEMPTS} attempts: rerun this command")

    def _prepare(self, target: Path, file: str | None, content: str | None, message: str, move: Move | None) -> None:
        if file is None or content is None:
            raise OperationError("a forced deployment is recorded immediately: omit CHANGE")
        self.clone.identity()
        moved = (move.branch, move.before, move.after) if move else ()
        Change(file, self._read(file), content, message, *moved).write(target)

    def _commit(self, head: str | None, file: str | None, content: str | None, message: str) -> str:
        git = self.clone.git
        self.clone.identity()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            git("read-tree", head or "--empty", environment=index)
            if file and content is not None:
                blob = git("hash-object", "-w", "--stdin", stdin=content)
                git("update-index", "--add", "--cacheinfo", f"100644,{blob},{file}", environment=index)
            tree = git("write-tree", environment=index)
        return git("commit-tree", tree, *(("-p", head) if head else ()), "-m", message)

    def _read(self, file: str) -> str | None:
        head = self.heads.get(BRANCH)
        return self.clone.read([f"{head}:{file}"])[0] if head else None

    def _lost(self, stack: str) -> str:
        newest = self.history(stack)[0]
        return (
            f"the record of {stack} was changed meanwhile: {newest.release.commit[:12]}, by {newest.by} "
            f'("{newest.message}"); rerun this command'
        )

    def _moved(self, move: Move) -> str:
        now = self.heads.get(move.branch)
        what = f"was moved to {now[:12]}" if now else "was deleted"
        return f"the branch {move.branch} {what} meanwhile: rerun this command"


def release_of(stack: str, clone: Clone | None = None) -> Release | None:
    """Fetch a stack's record; return None if it has none.

    Raises:
        OperationError: The remote cannot be read.
    """
    return Ledger(clone or Clone()).release(stack)


@contextmanager
def _errors(file: str) -> Iterator[None]:
    try:
        yield
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise OperationError(
            f"{file} of the branch {BRANCH} cannot be read ({reason}): update this clone, or revert the commit that "
            "broke the file"
        ) from error


def _file(stack: str) -> str:
    return f"releases/{stack}.yaml"


def _evidence_file(commit: str) -> str:
    return f"gates/{commit}.yaml"


def _text(release: Release) -> str:
    return HEADER + yaml.safe_dump(_plain(release), sort_keys=False, width=WIDTH, allow_unicode=True)


def _plain(record: Record) -> Any:
    return record.model_dump(mode="json")


def _release(stack: str, text: str | None) -> Release | None:
    with _errors(_file(stack)):
        return None if text is None else Release.model_validate(yaml.safe_load(text))


def _evidence(commit: str, text: str | None) -> list[Evidence]:
    with _errors(_evidence_file(commit)):
        return [] if text is None else [Evidence.model_validate(entry) for entry in yaml.safe_load(text)]
