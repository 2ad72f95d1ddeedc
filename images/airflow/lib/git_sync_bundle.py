"""A bundle of the DAGs that git-sync checks out; its version is their commit."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BundleVersion
from airflow.dag_processing.bundles.local import LocalDagBundle

from served_dags import fetch

log = logging.getLogger(__name__)

# As in infra/airflow_names.py and infra/airflow/values.py.
LINK = Path("/opt/airflow/dags/repo")
SERVER = "DAGS_URL"

# git-sync's link points to a work tree with the commit's name: `repo -> .worktrees/<commit>`.
COMMIT = re.compile(r"[0-9a-f]{40,64}")

# Remotes that also have web pages: https://user@host/path.git, ssh://git@host:22/path.git, git@host:path.git
REMOTE = re.compile(
    r"(?:https://(?:[^@/]*@)?(?P<web>[^/]+)/|ssh://(?:[^@/]*@)?(?P<ssh>[^:/]+)(?::\d+)?/|[^@/:]+@(?P<scp>[^:/]+):)"
    r"(?P<path>.+?)(?:\.git)?/?"
)


class GitSyncBundle(LocalDagBundle):
    """The DAGs folder, which git-sync keeps at the newest commit of a branch; tasks fetch that commit once.

    Airflow's user interface shows the commit of each DAG version. There is only one checkout, so runs cannot be pinned
    to a commit: set `[dag_processor] disable_bundle_versioning`.
    """

    supports_versioning = True

    def __init__(self, *, repository: str, **kwargs: Any) -> None:
        """Use Airflow's DAGs folder; `repository` is the address of its remote."""
        super().__init__(**{"view_url_template": commit_page(repository), **kwargs})
        self._work_tree: Path | None = None

    def initialize(self) -> None:
        """Fetch the DAGs in the pod of a task, and log the commit."""
        if SERVER in os.environ:
            with self.lock():
                if not LINK.exists():
                    fetch(os.environ[SERVER], LINK)
        super().initialize()
        log.info("Running the DAGs of commit %s", commit_of(self.path))

    @property
    def path(self) -> Path:
        """The folder that git-sync's link pointed to at the last refresh.

        Following the link at any time would parse files before their new commit is known, and show them as part of the
        old one.
        """
        return self._work_tree or super().path

    def refresh(self) -> None:
        """Use the newest commit."""
        self._work_tree = super().path.resolve()

    def get_current_version(self) -> BundleVersion | None:  # type: ignore[override]
        """Return the commit."""
        commit = commit_of(self.path)
        return BundleVersion(commit) if commit else None


def commit_of(folder: Path) -> str | None:
    """Return the commit of a folder, or None if git-sync did not create it."""
    return next(filter(COMMIT.fullmatch, folder.resolve().parts), None)


def commit_page(repository: str) -> str | None:
    """Return the URL template of a commit's web page, or None if the remote has no web pages."""
    remote = REMOTE.fullmatch(repository)
    if remote is None:
        return None
    host = remote["web"] or remote["ssh"] or remote["scp"]
    page = "commits" if host == "bitbucket.org" else "commit"
    return f"https://{host}/{remote['path']}/{page}/{{version}}"
