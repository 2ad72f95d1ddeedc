"""Tasks fetch the DAGs of the checked-out commit from the server next to the dag-processor."""

import logging
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import uvicorn
from airflow import settings

import git_sync_bundle
from dags_server import application, archive
from git_sync_bundle import GitSyncBundle
from ops.loopback import LOOPBACK
from served_dags import DagsUnavailableError, fetch
from tests.servers import free_port

from .checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """Return the link of a task's pod, on an empty volume."""
    (tmp_path / "pod").mkdir()
    return tmp_path / "pod" / "repo"


@contextmanager
def serving(checkout: Checkout, folder: str = "dags", port: int | None = None) -> Iterator[str]:
    app = application(checkout.root / "repo", folder)
    config = uvicorn.Config(app, host=LOOPBACK, port=port or free_port(), log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://{LOOPBACK}:{config.port}/dags.tar.gz"
    finally:
        server.should_exit = True
        thread.join()


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_task_gets_the_files_of_the_newest_commit_under_its_name(checkout: Checkout, link: Path) -> None:
    checkout.sync("first")
    with serving(checkout) as url:
        httpx.get(url)
        second = checkout.sync("second")
        fetch(url, link)
    assert files(link / "dags") == {"one_dag.py": "second"}
    assert link.resolve().name == second


def test_a_task_gets_the_folder_of_the_dags_only(checkout: Checkout, link: Path) -> None:
    (checkout.source / "infra").mkdir()
    (checkout.source / "infra" / "settings.py").write_text("")
    checkout.sync("first")
    with serving(checkout) as url:
        fetch(url, link)
    assert set(files(link)) == {"dags/one_dag.py"}


def test_links_within_the_commit_are_followed_and_those_that_leave_it_are_left_out(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("key")
    (checkout.source / "shared").mkdir()
    (checkout.source / "shared" / "helper.py").write_text("help")
    dags = checkout.source / "dags"
    dags.mkdir()
    for name, target in {"lib": "../shared", "key": str(tmp_path / "secret"), "loop": ".", "gone": "nowhere"}.items():
        (dags / name).symlink_to(target)
    checkout.sync("first")
    with tarfile.open(fileobj=BytesIO(archive((checkout.root / "repo").resolve(), "dags"))) as tar:
        names = {name.partition("/dags/")[2] for name in tar.getnames()}
    assert names - {""} == {"one_dag.py", "lib/helper.py"}


def test_the_task_fails_with_a_sentence_if_the_commit_has_no_such_folder(checkout: Checkout, link: Path) -> None:
    commit = checkout.sync("first")
    with (
        serving(checkout, "flows") as url,
        pytest.raises(
            DagsUnavailableError, match=f"^the server of the DAGs answers 404: commit {commit} has no folder"
        ),
    ):
        fetch(url, link)
    assert not link.exists()


def test_a_task_waits_for_a_server_that_starts(
    checkout: Checkout, link: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkout.sync("first")
    port = free_port()
    fetching = threading.Thread(target=fetch, args=(f"http://{LOOPBACK}:{port}/dags.tar.gz", link))
    with caplog.at_level(logging.WARNING, "served_dags"):
        fetching.start()
        time.sleep(1)
        with serving(checkout, port=port):
            fetching.join(120)
    assert files(link / "dags") == {"one_dag.py": "first"}
    assert caplog.text.count("Waiting for the server of the DAGs") == 1


def test_a_task_fails_with_a_sentence_if_no_server_answers(link: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(DagsUnavailableError, match=r"^the server of the DAGs does not answer .*: check the dag-proc"):
        fetch(f"http://{LOOPBACK}:{port}/dags.tar.gz", link, patience_seconds=0.5)
    assert not link.exists()


def test_the_server_is_healthy_once_there_is_a_checkout(checkout: Checkout) -> None:
    with serving(checkout) as url:
        health = url.replace("dags.tar.gz", "health")
        assert httpx.get(health).status_code == 503
        checkout.sync("first")
        assert httpx.get(health).status_code == 200


def test_the_bundle_of_a_task_keeps_the_commit_that_it_has_fetched(
    checkout: Checkout, link: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(link / "dags"))
    monkeypatch.setattr(git_sync_bundle, "LINK", link)
    commit = checkout.sync("first")
    with serving(checkout) as url, caplog.at_level(logging.INFO):
        monkeypatch.setenv("DAGS_URL", url)
        for content in ("second", "third"):
            bundle = GitSyncBundle(name="dags", repository="git@example.com:team/dags.git")
            bundle.initialize()
            version = bundle.get_current_version()
            assert version is not None
            assert version.version == commit
            checkout.sync(content)
    assert (bundle.path / "one_dag.py").read_text() == "first"
    assert f"Running the DAGs of commit {commit}" in caplog.text


def test_the_server_imports_little(tmp_path: Path) -> None:
    """Airflow takes a hundred times the memory of this server."""
    program = "import sys, dags_server; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(Path(git_sync_bundle.__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert not {"airflow", "pydantic", "sqlalchemy"} & set(done.stdout.split())
