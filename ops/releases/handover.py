"""Hand over between the jobs of a workflow: publish a prepared change, and check out a stack's release.

`publish` pushes a change that `make gate`, `release`, `promote` or `rollback` wrote to a file (CHANGE=<file>). Its job
has the key of the protected branches. So this file needs only Git and Python's standard library, and does not trust
the job before it. A change may modify one file of the branch `releases`, as its operation allows. It may move a stack's
branch forward to the recorded release of the previous stack, or back to a release that the stack ran. Everything is
one push, which fails if a branch has moved meanwhile.

`check-out` checks out the commit of a stack's release, so that the next steps run the release's own program.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REMOTE = "origin"
RECORDS = "releases"
HEADS = "refs/heads/"
OPERATIONS = ("tests", "rehearsal", "release", "promote", "rollback")

ATTEMPTS = 5
WAIT_SECONDS = 1800  # for the approval and the push of the workflow's other job
POLL_INTERVAL_SECONDS = 5

STACK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
COMMIT_LINE = re.compile(r"^commit: '?([0-9a-f]{40})'?$", re.MULTILINE)
# A YAML scalar on one line.
VALUE = r"(?:[\w./][\w.@/:+<>\[\],' -]*|'(?:[^'\n]|'')*')"
# Lines that may differ between two records of the same release.
OWN_LINE = re.compile(rf"(?P<key>stack|promoted_from|recorded_at|deployed_at|forced_by|    repository): {VALUE}")
RECORD_LINE = re.compile(rf"#.*| *[\w-]+:( {VALUE})?")
FORCED_BY = re.compile(r"^forced_by: .*\n(  .*\n)*", re.MULTILINE)
EVIDENCE = re.compile(
    rf"- gate: (?P<gate>\w+)\n  stack: (?P<stack>{VALUE})\n  against: {VALUE}\n  passed: (true|false)\n"
    rf"  by: {VALUE}\n  at: {VALUE}\n"
)

# https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/githubs-ssh-key-fingerprints
KNOWN_HOSTS = "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"


class HandoverError(Exception):
    """One sentence: what is wrong, and what to do."""


@dataclass(frozen=True)
class Change:
    """A change to publish in one push.

    Attributes:
        file: The file of the branch `releases`.
        before: The expected text of the file; None if the file must not exist.
        after: The new text of the file.
        message: The commit message.
        branch: The stack's branch to move; None to move none.
        branch_before: The expected commit of that branch; None if it must not exist.
        branch_after: The commit to move it to.
    """

    file: str
    before: str | None
    after: str
    message: str
    branch: str | None = None
    branch_before: str | None = None
    branch_after: str | None = None

    def write(self, file: Path) -> None:
        """Write the change to a file."""
        file.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, file: Path) -> Change:
        """Read a change from a file.

        Raises:
            HandoverError: The file does not contain a valid change.
        """
        try:
            found = cls(**json.loads(file.read_text()))
            texts = [text for text in asdict(found).values() if text is not None]
            commits = [text for text in (found.branch_before, found.branch_after) if text is not None]
            if all(isinstance(text, str) for text in texts) and all(map(COMMIT.fullmatch, commits)):
                return found
            reason = "invalid format"
        except OSError as error:
            reason = str(error.strerror)
        except (ValueError, TypeError) as error:
            reason = str(error)
        raise HandoverError(f"the change in {file} cannot be read ({reason}): prepare it again with CHANGE=<file>")


@dataclass(frozen=True)
class Remote:
    """The shared repository, accessed through a clone.

    All methods raise HandoverError if Git fails.

    Attributes:
        folder: The clone.
        address: The remote's name or address.
        environment: Additional environment variables for Git.
    """

    folder: Path = REPOSITORY
    address: str = REMOTE
    environment: Mapping[str, str] = field(default_factory=dict)

    def heads(self, *branches: str) -> dict[str, str]:
        """Fetch branches, and return the commit of each; missing branches are left out."""
        names = [HEADS + branch for branch in branches]
        listed = (line.split("\t") for line in self.git("ls-remote", "--refs", self.address, *names).splitlines())
        found = {name.removeprefix(HEADS): commit for commit, name in listed if name in names}
        if found:
            self.git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self.address, *found.values())
        return found

    def text(self, commit: str | None, file: str) -> str | None:
        """Return the text of a file in a commit; None if it does not exist."""
        if commit is None or not self.git("ls-tree", commit, "--", file):
            return None
        return self.git("show", f"{commit}:{file}")

    def is_ancestor(self, older: str, newer: str | None) -> bool:
        """Return whether a commit is an ancestor of another, or the same."""
        return newer is not None and self._run("merge-base", "--is-ancestor", older, newer).returncode == 0

    def history(self, commit: str, file: str) -> Iterator[str]:
        """Yield the texts in a file's history, newest first."""
        for changed in self.git("log", "--format=%H", commit, "--", file).splitlines():
            if text := self.text(changed, file):
                yield text

    def commit(self, head: str | None, change: Change) -> str:
        """Commit a change on top of a head, without changing the clone's files and branches; return the commit."""
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            self.git("read-tree", head or "--empty", environment=index)
            blob = self.git("hash-object", "-w", "--stdin", text=change.after).strip()
            self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{change.file}", environment=index)
            tree = self.git("write-tree", environment=index).strip()
        return self.git("commit-tree", tree, *(("-p", head) if head else ()), "-m", change.message).strip()

    def push(self, moves: Mapping[str, tuple[str | None, str]]) -> str | None:
        """Move branches from one commit to another, atomically; return Git's error if it refuses."""
        leases = [f"--force-with-lease={HEADS}{branch}:{before or ''}" for branch, (before, _) in moves.items()]
        targets = [f"{after}:{HEADS}{branch}" for branch, (_, after) in moves.items()]
        done = self._run("push", "--quiet", "--atomic", "--no-follow-tags", *leases, self.address, *targets)
        return None if done.returncode == 0 else _reason(done.stderr)

    def git(self, *arguments: str, text: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Return the output of a Git command."""
        done = self._run(*arguments, text=text, environment=environment)
        if done.returncode != 0:
            raise HandoverError(
                f"`git {arguments[0]}` failed ({_reason(done.stderr)}): check that Git can reach the remote"
            )
        return done.stdout

    def _run(
        self, *arguments: str, text: str = "", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **self.environment, **(environment or {})}
        command = ["git", "-C", str(self.folder), *arguments]
        try:
            return subprocess.run(command, check=False, input=text, capture_output=True, text=True, env=env)
        except FileNotFoundError:
            raise HandoverError("git is not on PATH: install it") from None


def publish(remote: Remote, operation: str, stack: str | None, commit: str | None, change: Change) -> str:
    """Check a change and push it; return a message.

    Args:
        remote: The remote.
        operation: The operation that the change must belong to.
        stack: The stack; None for tests.
        commit: The tested commit; None for other operations.
        change: The change.

    Raises:
        HandoverError: The operation does not allow the change, or a branch has moved.
    """
    for _ in range(ATTEMPTS):
        heads = remote.heads(RECORDS, *([change.branch] if change.branch else []))
        text = remote.text(heads.get(RECORDS), change.file)
        head = heads.get(change.branch) if change.branch else None
        if text == change.after and head == change.branch_after:
            return f"already published: {change.message}"
        if text != change.before:
            raise HandoverError(f"{change.file} has changed since the change was prepared: prepare it again")
        if head != change.branch_before:
            raise HandoverError(f"{change.branch} has moved since the change was prepared: prepare it again")
        check(remote, heads, operation, stack, commit, change)
        moves: dict[str, tuple[str | None, str]] = {
            RECORDS: (heads.get(RECORDS), remote.commit(heads.get(RECORDS), change))
        }
        if change.branch and change.branch_after:
            moves[change.branch] = (change.branch_before, change.branch_after)
        reason = remote.push(moves)
        if reason is None:
            return f"published: {change.message}"
        if remote.heads(*moves).items() == {name: before for name, (before, _) in moves.items() if before}.items():
            raise HandoverError(
                f"{' and '.join(moves)} cannot be pushed ({reason}): check that the key in RELEASE_KEY may bypass "
                "the rules of these branches"
            )
    raise HandoverError(f"the branch {RECORDS} changed during each of {ATTEMPTS} attempts: rerun this command")


def check(
    remote: Remote, heads: Mapping[str, str], operation: str, stack: str | None, commit: str | None, change: Change
) -> None:
    """Check that an operation allows a change.

    Raises:
        HandoverError: The change is not allowed.
    """
    require(len(change.message) < 200 and change.message.isprintable(), "its message is not one line")
    require((change.branch is None) == (change.branch_after is None), "its branch move is incomplete")
    if operation in ("tests", "rehearsal"):
        require(change.branch is None, "it moves a branch")
        source = settings_of(stack, "after") if stack else None
        wanted = commit if operation == "tests" else commit_of(record_of(remote, heads, source))
        require(change.file == f"gates/{wanted}.yaml", f"it is not about the commit {wanted}")
        check_evidence(change, operation, "null" if operation == "tests" else str(stack))
        return
    require(stack is not None and change.file == f"releases/{stack}.yaml", "it is about another stack")
    require(f"stack: {stack}" in change.after.splitlines(), "it is the record of another stack")
    branch, source = settings_of(stack, "branch"), settings_of(stack, "after")
    wanted = commit_of(change.after)
    if operation == "release":
        require(change.branch is None, "it moves a branch")
        if source:
            require(same_release(change.after, change.before), "it differs from the recorded release of the stack")
        else:
            require(all(map(RECORD_LINE.fullmatch, change.after.splitlines())), "its record has unexpected lines")
            there = remote.heads(str(branch)).get(str(branch))
            require(remote.is_ancestor(wanted, there), f"{wanted[:12]} is not in {branch}")
        return
    require(change.branch in (None, branch), f"it moves another branch than {branch}")
    require(change.branch_after in (None, wanted), "the branch moves to another commit than the record")
    if change.branch is None:
        require(remote.heads(str(branch)).get(str(branch)) == wanted, f"{branch} is at another commit than the record")
    if operation == "promote":
        require(source is not None, "releases are not promoted to this stack")
        known = record_of(remote, heads, source)
        require(same_release(change.after, known), f"it differs from the recorded release of {source}")
        if change.branch_before:
            require(remote.is_ancestor(change.branch_before, wanted), f"{branch} would not move forward")
    else:
        former = remote.history(heads[RECORDS], change.file) if RECORDS in heads else ()
        ran = (text for text in former if "\ndeployed_at: null\n" not in text)
        require(any(same_release(change.after, text) for text in ran), "the stack never ran this release")


def check_evidence(change: Change, gate: str, stack: str) -> None:
    """Check that a change adds or replaces the evidence of one gate, and changes nothing else.

    Raises:
        HandoverError: The change does more, or something else.
    """
    texts = (change.before or "", change.after)
    (_, *old), (header, *new) = (re.split(r"^(?=- )", text, flags=re.MULTILINE) for text in texts)
    require(re.fullmatch(r"(#.*\n)*", header) is not None, "it is not a list of evidence")
    added = EVIDENCE.fullmatch(new[-1]) if new else None
    require(added is not None and (added["gate"], added["stack"]) == (gate, stack), f"it is not evidence of {gate}")
    repeated = f"- gate: {gate}\n  stack: {stack}\n"
    require(new[:-1] == [entry for entry in old if not entry.startswith(repeated)], "it changes other evidence")


def same_release(new: str, known: str | None) -> bool:
    """Return whether two records differ only in the lines that belong to a stack."""
    if known is None:
        return False
    lines, others = new.splitlines(), FORCED_BY.sub("forced_by: null\n", known).splitlines()
    return len(lines) == len(others) and all(map(_same_line, lines, others)) and "forced_by: null" in lines


def _same_line(line: str, other: str) -> bool:
    own = OWN_LINE.fullmatch(line)
    return line == other or (own is not None and other.startswith(f"{own['key']}: "))


def record_of(remote: Remote, heads: Mapping[str, str], stack: str | None) -> str:
    """Return a stack's record.

    Raises:
        HandoverError: The stack has no record.
    """
    text = remote.text(heads.get(RECORDS), f"releases/{stack}.yaml")
    if text is None:
        raise HandoverError(f"{stack} has no recorded release: run `make release STACK={stack}`")
    return text


def commit_of(record: str) -> str:
    """Return the commit of a record.

    Raises:
        HandoverError: The record contains no commit, or several.
    """
    found = COMMIT_LINE.findall(record)
    require(len(found) == 1 and len(re.findall(r"^['\"]?commit\b", record, re.MULTILINE)) == 1, "it has no commit")
    return str(found[0])


def settings_of(stack: str | None, key: str) -> str | None:
    """Return a stack's `branch`, or the previous stack (`after`); None if its settings do not contain the key.

    Raises:
        HandoverError: The stack does not exist.
    """
    file = REPOSITORY / f"Pulumi.{stack}.yaml"
    if stack is None or not STACK.fullmatch(stack) or not file.is_file():
        raise HandoverError(f"there is no stack {stack!r}: choose one that has a file Pulumi.<stack>.yaml")
    found = re.search(rf"^    {key}: ([\w./-]+)$", file.read_text(), re.MULTILINE)
    return found[1] if found else None


def require(condition: bool, why: str) -> None:
    """Refuse a change unless a condition holds.

    Raises:
        HandoverError: The condition does not hold.
    """
    if not condition:
        raise HandoverError(f"the change is refused: {why}; prepare it again with CHANGE=<file>")


def check_out(remote: Remote, stack: str, change: Change | None) -> str:
    """Check out the commit of a stack's release, on the stack's branch if that is at the commit; return a message.

    Args:
        remote: The remote.
        stack: The stack.
        change: A change to wait for until it is published.

    Raises:
        HandoverError: The stack has no release, or the change was not published in time.
    """
    branch = str(settings_of(stack, "branch"))
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        heads = remote.heads(RECORDS, branch)
        record = record_of(remote, heads, stack)
        if change is None or (record == change.after and change.branch_after in (None, heads.get(branch))):
            break
        if time.monotonic() > deadline:
            raise HandoverError(f"the change of {stack} was not published within {WAIT_SECONDS} s: rerun the workflow")
        time.sleep(POLL_INTERVAL_SECONDS)
    commit = commit_of(record)
    require(remote.is_ancestor(commit, heads.get(branch)), f"{commit[:12]}, the release of {stack}, is not in {branch}")
    remote.git("checkout", "--quiet", *(("-B", branch) if heads[branch] == commit else ("--detach",)), commit)
    return f"checked out {commit[:12]}, the release of {stack}"


@contextmanager
def with_key(key: str | None) -> Iterator[Remote]:
    """Yield the remote with the key of RELEASE_KEY; without a key, with the user's own Git configuration.

    Raises:
        HandoverError: The key is missing in a workflow.
    """
    if not key:
        if "GITHUB_ACTIONS" in os.environ:
            raise HandoverError("RELEASE_KEY is empty: add the key to this job's environment, see docs/releases.md")
        yield Remote()
        return
    with tempfile.TemporaryDirectory() as folder:
        file, hosts = Path(folder, "key"), Path(folder, "known_hosts")
        file.touch(mode=0o600)
        file.write_text(f"{key.strip()}\n")
        hosts.write_text(KNOWN_HOSTS)
        options = ("IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", "StrictHostKeyChecking=yes",
                   f"UserKnownHostsFile={hosts}", "GlobalKnownHostsFile=/dev/null", "ConnectTimeout=30")  # fmt: skip
        ssh = " ".join(["ssh", "-F", "none", "-i", str(file), *(f"-o {option}" for option in options)])
        address = f"ssh://git@github.com/{os.environ.get('GITHUB_REPOSITORY', '')}.git"
        yield Remote(address=address, environment={"GIT_SSH_COMMAND": ssh})


def _reason(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith(("fatal: ", "error: ", "remote: error: ", "! "))]
    return (messages or lines or ["no message"])[0]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    publisher = commands.add_parser("publish", help="check a prepared change and push it")
    _add(publisher, "OPERATION", f"the operation that prepared the change: {', '.join(OPERATIONS)}")
    _add(publisher, "CHANGE", "the file of the change")
    _add(publisher, "STACK", "the stack; not needed for tests")
    _add(publisher, "COMMIT", "the tested commit")
    checker = commands.add_parser("check-out", help="check out the commit of a stack's release")
    _add(checker, "STACK", "the stack")
    _add(checker, "CHANGE", "the file of a change to wait for until it is published")
    arguments = parser.parse_args()
    try:
        if arguments.command == "publish":
            if arguments.operation not in OPERATIONS or not arguments.change:
                raise HandoverError(
                    "OPERATION or CHANGE is missing or invalid: run `make publish OPERATION=release CHANGE=change`"
                )
            change, key = Change.read(Path(arguments.change)), os.environ.pop("RELEASE_KEY", None)
            with with_key(key) as remote:
                message = publish(remote, arguments.operation, arguments.stack, arguments.commit, change)
        else:
            if not arguments.stack:
                raise HandoverError("STACK is missing: run `make check-out STACK=dev`")
            awaited = Change.read(Path(arguments.change)) if arguments.change else None
            message = check_out(Remote(), arguments.stack, awaited)
    except HandoverError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{message}\n")


def _add(parser: argparse.ArgumentParser, variable: str, text: str) -> None:
    """Add an option that can also be set with the variable that the Makefile passes through."""
    default = os.environ.get(variable) or None
    parser.add_argument(f"--{variable.lower()}", default=default, help=f"{text} (default: ${variable})")


if __name__ == "__main__":
    main()
