"""The Git clone in which a command runs, and its shared remote."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.documents import REPOSITORY
from infra.errors import OperationError

HEADS = "refs/heads/"


@dataclass(frozen=True)
class Move:
    """A move of a remote branch from one commit to another.

    Attributes:
        branch: The branch.
        before: The commit where it must be; None if it must not exist.
        after: The commit to move it to.
    """

    branch: str
    before: str | None
    after: str


@dataclass(frozen=True)
class Clone:
    """A clone and one of its remotes.

    No method moves a reference of the clone or touches its files, so an interrupted command leaves nothing to repair,
    and several may run at once. All methods raise OperationError if Git is missing or fails.

    Attributes:
        folder: The clone's top folder.
        remote: The remote's name.
        change_file: A file that receives changes of the remote for `make publish`, instead of a push.
    """

    folder: Path = REPOSITORY
    remote: str = "origin"
    change_file: Path | None = None

    def dirty(self) -> list[str]:
        """Return the files with uncommitted changes, including untracked files."""
        return [line[3:] for line in self.git("status", "--porcelain").splitlines()]

    def branch(self) -> str | None:
        """Return the checked-out branch; None if HEAD is detached."""
        found = self._run("symbolic-ref", "--quiet", "--short", "HEAD")
        return _text(found).strip() or None

    def has_branch(self, branch: str) -> bool:
        """Return whether the clone has a local branch."""
        return self._run("show-ref", "--verify", "--quiet", HEADS + branch).returncode == 0

    def head(self) -> str:
        """Return the checked-out commit."""
        return self.git("rev-parse", "--verify", "HEAD")

    def identity(self) -> str:
        """Return the Git identity of the user, as `name <address>`.

        Raises:
            OperationError: Git has no identity configured.
        """
        found = self._run("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
        if found.returncode != 0:
            raise OperationError('git has no identity: run `git config user.name "…"` and `git config user.email …`')
        return _text(found).rpartition(">")[0] + ">"

    def fetch(self, *branches: str) -> dict[str, str]:
        """Fetch branches of the remote, and return the commit of each; branches that the remote lacks are left out.

        Raises:
            OperationError: The remote is not configured, or cannot be reached.
        """
        if self._run("remote", "get-url", self.remote).returncode != 0:
            raise OperationError(
                f"{self.folder} has no remote {self.remote}: run `git remote add {self.remote} <repository URL>`"
            )
        names = [HEADS + branch for branch in branches]
        listed = (line.split("\t") for line in self._ask_remote("ls-remote", "--refs", self.remote, *names))
        heads = {name.removeprefix(HEADS): commit for commit, name in listed if name in names}
        self._bring(*heads.values())
        return heads

    def ensure(self, commit: str) -> None:
        """Fetch a commit that may no longer be in any branch of the remote.

        Raises:
            OperationError: The remote does not have the commit.
        """
        if self._run("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
            self._bring(commit)

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether a commit is an ancestor of another, or the same."""
        found = self._run("merge-base", "--is-ancestor", older, newer)
        if found.returncode > 1:
            raise OperationError(f"{older[:12]} and {newer[:12]} cannot be compared: {_words(found.stderr)}")
        return found.returncode == 0

    def between(self, older: str, newer: str) -> list[str]:
        """Return the short hashes and subjects of the commits that are in the newer but not in the older."""
        return self.git("log", "--format=%h %s", f"{older}..{newer}").splitlines()

    def tree(self, commit: str, path: str) -> str:
        """Return the Git tree hash of a folder in a commit."""
        return self.git("rev-parse", "--verify", f"{commit}:{path}")

    def entries(self, commit: str, path: str) -> dict[str, str]:
        """Return the entries of a folder in a commit: names and Git object hashes."""
        lines = self.git("ls-tree", f"{commit}:{path}").splitlines()
        return {name: entry.split()[2] for entry, _, name in (line.partition("\t") for line in lines)}

    def read(self, files: Sequence[str]) -> list[str | None]:
        """Return the content of files, each named `<commit>:<path>`; None for missing ones."""
        output = io.BytesIO(self._checked("cat-file", "--batch", stdin="".join(f"{name}\n" for name in files)))
        contents: list[str | None] = []
        for _ in files:
            header = output.readline().split()
            if header[-1] == b"missing":
                contents.append(None)
                continue
            contents.append(output.read(int(header[2])).decode())
            output.readline()
        return contents

    def extract(self, commit: str, folder: Path) -> None:
        """Extract the files of a commit into a folder."""
        with tarfile.open(fileobj=io.BytesIO(self._checked("archive", "--format=tar", commit))) as files:
            files.extractall(folder, filter="data")

    def push(self, *moves: Move) -> bool:
        """Move branches of the remote atomically; return False if one is not at its expected commit.

        Raises:
            OperationError: The remote cannot be reached, or refused the push for another reason.
        """
        leases = [f"--force-with-lease={HEADS}{move.branch}:{move.before or ''}" for move in moves]
        targets = [f"{move.after}:{HEADS}{move.branch}" for move in moves]
        result = self._run("push", "--quiet", "--atomic", "--no-follow-tags", *leases, self.remote, *targets)
        if result.returncode == 0:
            return True
        heads = self.fetch(*(move.branch for move in moves))
        if all(heads.get(move.branch) == move.after for move in moves):
            return True  # only the response was lost
        if any(heads.get(move.branch) != move.before for move in moves):
            return False
        raise OperationError(
            f"{self.remote} refused the push to {' and '.join(move.branch for move in moves)} "
            f"({_words(result.stderr)}): check that your account may push there"
        )

    def git(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Return the output of a Git command.

        Raises:
            OperationError: The command failed.
        """
        return self._checked(*arguments, stdin=stdin, environment=environment).decode().rstrip("\n")

    def _bring(self, *commits: str) -> None:
        if commits:
            whole = ["--unshallow"] if self.git("rev-parse", "--is-shallow-repository") == "true" else []
            options = ["--quiet", "--no-tags", "--no-write-fetch-head", *whole]
            self._ask_remote("fetch", *options, self.remote, *dict.fromkeys(commits))

    def _ask_remote(self, *arguments: str) -> list[str]:
        result = self._run(*arguments)
        if result.returncode != 0:
            raise OperationError(
                f"the remote {self.remote} cannot be read ({_words(result.stderr)}): check the network, and that "
                f"`git fetch {self.remote}` works"
            )
        return _text(result).splitlines()

    def _checked(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> bytes:
        result = self._run(*arguments, stdin=stdin, environment=environment)
        if result.returncode != 0:
            raise OperationError(f"`git {arguments[0]}` failed in {self.folder}: {_words(result.stderr)}")
        return result.stdout

    def _run(
        self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["git", "-C", str(self.folder), *arguments],
                check=False,
                input=stdin.encode(),
                capture_output=True,
                env={**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(environment or {})},
            )
        except FileNotFoundError:
            raise OperationError("git is not on PATH: install it") from None


def _text(result: subprocess.CompletedProcess[bytes]) -> str:
    return result.stdout.decode()


def _words(stderr: bytes) -> str:
    """Return the most useful line of Git's output: hooks write before the error, and hints follow it."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith(("fatal: ", "error: ", "remote: error: ", "! "))]
    return (messages or lines or ["no message"])[0].removeprefix("fatal: ").removeprefix("error: ")
