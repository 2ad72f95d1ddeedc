"""The DAGs that git-sync checks out, as a bundle whose version is their commit."""

import logging
import re
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BundleVersion
from airflow.dag_processing.bundles.local import LocalDagBundle

log = logging.getLogger(__name__)

# git-sync's link points to a work tree that has the commit's name: `repo -> .worktrees/<commit>`.
COMMIT = re.compile(r"[0-9a-f]{40,64}")

# Addresses that have a web page beside them: https://user@host/path.git, ssh://git@host:22/path.git, git@host:path.git
REMOTE = re.compile(
    r"(?:https://(?:[^@/]*@)?(?P<web>[^/]+)/|ssh://(?:[^@/]*@)?(?P<ssh>[^:/]+)(?::\d+)?/|[^@/:]+@(?P<scp>[^:/]+):)"
    r"(?P<path>.+?)(?:\.git)?/?"
)


class GitSyncBundle(LocalDagBundle):
    """The folder of the DAGs, which git-sync keeps at the newest commit of a branch.

    Airflow's user interface shows the commit with each version of a DAG. There is one checkout and it is always the
    newest, so runs must not be pinned to a commit: set `[dag_processor] disable_bundle_versioning`.
    """

    supports_versioning = True

    def __init__(self, *, repository: str, **kwargs: Any) -> None:
        """Take the DAGs from the folder that Airflow is configured with; `repository` is their remote's address."""
        super().__init__(**{"view_url_template": commit_page(repository), **kwargs})
        self._work_tree: Path | None = None

    def initialize(self) -> None:
        """Say in the log, a task's too, which commit runs."""
        super().initialize()
        log.info("The DAGs are those of commit %s", commit_of(self.path))

    @property
    def path(self) -> Path:
        """The folder through git-sync's link; once refreshed, the one of that commit.

        Else files would be parsed before their new commit is known, and shown as those of the old one.
        """
        return self._work_tree or super().path

    def refresh(self) -> None:
        """Take the newest commit."""
        self._work_tree = super().path.resolve()

    def get_current_version(self) -> BundleVersion | None:  # type: ignore[override]
        """Return the commit."""
        commit = commit_of(self.path)
        return BundleVersion(commit) if commit else None


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder is of, or None where git-sync has not put it there."""
    return next(filter(COMMIT.fullmatch, folder.resolve().parts), None)


def commit_page(repository: str) -> str | None:
    """Return the address of a commit's web page, with a place for the commit, or None where the remote has none."""
    remote = REMOTE.fullmatch(repository)
    if remote is None:
        return None
    host = remote["web"] or remote["ssh"] or remote["scp"]
    page = "commits" if host == "bitbucket.org" else "commit"
    return f"https://{host}/{remote['path']}/{page}/{{version}}"
