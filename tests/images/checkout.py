"""A checkout like git-sync's: a work tree for each commit, and a link to the newest one."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Checkout:
    """What git-sync does with a repository of one DAG."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root / "sync", root / "source"
        for folder in (self.root, self.source):
            folder.mkdir()
        git(self.source, "init", "--quiet", "--initial-branch", "main")

    @property
    def dags(self) -> Path:
        return self.root / "repo" / "dags"

    def sync(self, content: str) -> str:
        """Commit a DAG, check the commit out, and move the link; return the commit."""
        (self.source / "dags").mkdir(exist_ok=True)
        (self.source / "dags" / "one_dag.py").write_text(content)
        git(self.source, "add", ".")
        git(self.source, "commit", "--quiet", "--message", content)
        commit = git(self.source, "rev-parse", "HEAD")
        git(self.source, "worktree", "add", "--quiet", "--detach", str(self.root / ".worktrees" / commit), commit)
        new = self.root / "repo.new"
        new.symlink_to(Path(".worktrees", commit))
        new.replace(self.root / "repo")
        return commit
