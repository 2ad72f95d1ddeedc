"""The DAG processor on a checkout like git-sync's, without a database and without parsing processes."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow import settings
from airflow.dag_processing.manager import BundleState, DagFileInfo, DagFileProcessorManager, DagFileStat

from dag_processor import DagProcessor
from git_sync_bundle import GitSyncBundle

from .checkout import Checkout

NAME = "dags"
OLD, NEW = "# airflow dag 1", "# airflow dag 2"

KnownFiles = dict[str, set[DagFileInfo]]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path)
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(made.dags))
    state: dict[str, Any] = {"last_refreshed": None, "version": None}
    for name, answer in {
        "get_bundle_state": lambda *_: BundleState(**state),
        "update_bundle_state": lambda *_, **found: state.update({key: found[key] for key in found if found[key]}),
        "deactivate_deleted_dags": lambda *_, **__: None,
        "clear_orphaned_import_errors": lambda *_, **__: None,
        "handle_parsing_result": note_the_end,
    }.items():
        monkeypatch.setattr(DagFileProcessorManager, name, answer)
    return made


def note_the_end(manager: DagFileProcessorManager, file: DagFileInfo, _: object) -> None:
    manager._file_stats[file] = DagFileStat(last_finish_time=datetime.now(UTC), run_count=1)


def processor(checkout: Checkout, kind: Callable[..., DagFileProcessorManager]) -> tuple[Any, KnownFiles]:
    """Return a processor that has parsed the commit that is checked out, and the files that it knows."""
    manager: Any = kind(max_runs=-1)
    manager.bundle_refresh_check_interval = 0
    manager._dag_bundles = [GitSyncBundle(name=NAME, refresh_interval=0, repository="x")]
    known: KnownFiles = {}
    manager._refresh_dag_bundles(known)
    [file] = take(manager)
    manager.handle_parsing_result(file, None)
    return manager, known


def take(manager: Any) -> list[DagFileInfo]:
    """Take what is to be parsed out of the queue."""
    files = list(manager._file_queue)
    manager._file_queue.clear()
    return files


def texts(files: list[DagFileInfo]) -> list[str]:
    return [file.absolute_path.read_text() for file in files]


def check_out_before_the_last_parsing_ends(checkout: Checkout) -> None:
    checkout.sync(NEW)
    for file in checkout.dags.rglob("*.py"):
        os.utime(file, (0, 0))


@pytest.mark.parametrize(("kind", "parsed"), [(DagProcessor, [NEW]), (DagFileProcessorManager, [])])
def test_a_commit_checked_out_before_the_last_parsing_ended_is_parsed_at_once_which_airflow_itself_does_later(
    checkout: Checkout, kind: Callable[..., DagFileProcessorManager], parsed: list[str]
) -> None:
    checkout.sync(OLD)
    manager, known = processor(checkout, kind)
    check_out_before_the_last_parsing_ends(checkout)
    manager._refresh_dag_bundles(known)
    manager.prepare_file_queue(known)
    assert texts(take(manager)) == parsed


def test_a_file_that_is_being_parsed_when_its_commit_changes_is_parsed_once_more(checkout: Checkout) -> None:
    checkout.sync(OLD)
    manager, known = processor(checkout, DagProcessor)
    [file] = known[NAME]
    manager._processors[file] = None
    check_out_before_the_last_parsing_ends(checkout)
    manager._refresh_dag_bundles(known)
    manager.prepare_file_queue(known)
    assert take(manager) == []
    manager.handle_parsing_result(manager._processors.popitem()[0], None)
    manager.prepare_file_queue(known)
    [again] = take(manager)
    assert texts([again]) == [NEW]
    manager.handle_parsing_result(again, None)
    manager.prepare_file_queue(known)
    assert take(manager) == []


def test_a_file_of_the_previous_commit_leaves_the_queue_unless_a_callback_waits_for_it(checkout: Checkout) -> None:
    checkout.sync(OLD)
    manager, known = processor(checkout, DagProcessor)
    manager._add_files_to_queue(list(known[NAME]), mode="back")
    checkout.sync(NEW)
    manager._refresh_dag_bundles(known)
    assert texts(list(manager._file_queue)) == [NEW]
    manager._callback_to_execute[next(iter(manager._file_queue))].append("callback")
    checkout.sync("# airflow dag 3")
    manager._refresh_dag_bundles(known)
    assert texts(list(manager._file_queue)) == [NEW]


def test_without_a_new_commit_nothing_is_parsed_before_its_time(checkout: Checkout) -> None:
    checkout.sync(OLD)
    manager, known = processor(checkout, DagProcessor)
    manager._refresh_dag_bundles(known)
    manager.prepare_file_queue(known)
    assert take(manager) == []
