"""The bundle on a checkout like git-sync's: a work tree for each commit, and a link to the newest one."""

import logging
from pathlib import Path

import pytest
from airflow import settings
from airflow.dag_processing.bundles.manager import DagBundlesManager

from git_sync_bundle import GitSyncBundle, commit_page

from .checkout import Checkout

REMOTE = "git@example.com:team/dags.git"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path)
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(made.dags))
    return made


def bundle(version: str | None = None) -> GitSyncBundle:
    return GitSyncBundle(name="dags", version=version, repository=REMOTE)


def version_of(one: GitSyncBundle) -> str | None:
    current = one.get_current_version()
    return current.version if current else None


def test_the_version_is_the_commit_that_is_checked_out(checkout: Checkout) -> None:
    commit = checkout.sync("first")
    assert version_of(bundle()) == commit


def test_a_refresh_takes_the_next_commit_with_its_files(checkout: Checkout) -> None:
    checkout.sync("first")
    one = bundle()
    one.refresh()
    second = checkout.sync("second")
    one.refresh()
    assert version_of(one) == second
    assert (one.path / "one_dag.py").read_text() == "second"


def test_between_two_refreshes_files_and_version_stay_those_of_one_commit(checkout: Checkout) -> None:
    first = checkout.sync("first")
    one = bundle()
    one.refresh()
    checkout.sync("second")
    assert version_of(one) == first
    assert (one.path / "one_dag.py").read_text() == "first"


def test_a_bundle_that_is_never_refreshed_follows_the_link(checkout: Checkout) -> None:
    checkout.sync("first")
    one = bundle()
    path = one.path
    second = checkout.sync("second")
    assert one.path == path
    assert version_of(one) == second


def test_a_run_that_asks_for_an_older_commit_gets_the_newest_instead_of_an_error(checkout: Checkout) -> None:
    first = checkout.sync("first")
    checkout.sync("second")
    older = bundle(version=first)
    older.initialize()
    assert (older.path / "one_dag.py").read_text() == "second"


def test_the_commit_is_logged_by_every_component_that_reads_dags(
    checkout: Checkout, caplog: pytest.LogCaptureFixture
) -> None:
    commit = checkout.sync("first")
    with caplog.at_level(logging.INFO):
        bundle().initialize()
    assert f"Running the DAGs of commit {commit}" in caplog.text


def test_a_folder_without_git_sync_has_no_version(checkout: Checkout) -> None:
    checkout.dags.mkdir(parents=True)
    assert version_of(bundle()) is None


def test_components_without_a_checkout_can_name_the_commits_page() -> None:
    assert bundle().view_url_template() == "https://example.com/team/dags/commit/{version}"


def test_airflow_finds_the_bundle_by_its_classpath(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = checkout.sync("first")
    configured = '[{"name": "dags", "classpath": "git_sync_bundle.GitSyncBundle", "kwargs": {"repository": "x"}}]'
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", configured)
    found = DagBundlesManager().get_bundle("dags")  # type: ignore[no-untyped-call]
    assert isinstance(found, GitSyncBundle)
    assert version_of(found) == commit
    assert found.supports_versioning


@pytest.mark.parametrize(
    ("repository", "page"),
    [
        ("https://github.com/team/dags.git", "https://github.com/team/dags/commit/{version}"),
        ("https://github.com/team/dags", "https://github.com/team/dags/commit/{version}"),
        ("https://user@git.example.com:8443/a/b/dags.git", "https://git.example.com:8443/a/b/dags/commit/{version}"),
        ("ssh://git@git.example.com:2222/team/dags.git", "https://git.example.com/team/dags/commit/{version}"),
        ("git@gitlab.com:group/team/dags.git", "https://gitlab.com/group/team/dags/commit/{version}"),
        ("git@bitbucket.org:team/dags.git", "https://bitbucket.org/team/dags/commits/{version}"),
        ("git://git.airflow-platform.svc:9418/dags.git", None),
        ("http://git.example.com/dags.git", None),
        ("/srv/git/dags.git", None),
        ("file:///srv/git/dags.git", None),
    ],
)
def test_a_commits_page_is_named_where_the_remote_has_one(repository: str, page: str | None) -> None:
    assert commit_page(repository) == page
