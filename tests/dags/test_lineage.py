"""What tasks record as their lineage, and what a server receives of it from a run."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from airflow.sdk import lineage as airflow_lineage
from airflow.sdk import plugins_manager

from flight_features import steps
from infra.documents import REPOSITORY
from infra.lineage import RETRIES, Lineage
from ml_common import lineage
from ml_common.object_store import Bucket
from ops.loopback import LOOPBACK

DAGS = REPOSITORY / "dags"
DAY = "2013-01-10"

# In this program, unlike in Airflow, all tasks share a process: each forgets what the one before it recorded.
RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import lineage as airflow_lineage
from airflow.sdk.definitions import dag as definitions
from airflow.utils.db import initdb
from ml_common import lineage
run_task = definitions._run_task
def run_alone(**arguments):
    for recorded in (airflow_lineage.get_hook_lineage_collector, lineage.reads, lineage.writes):
        recorded.cache_clear()
    return run_task(**arguments)
definitions._run_task = run_alone
initdb()
folder, params = sys.argv[1:]
[dag] = DagBag(folder).dags.values()
dag.deadline = None  # dag.test() cannot look up the alerts of a DAG that is not in the database
run = dag.test(logical_date=None, run_conf=json.loads(params))
print("state:", run.state.value)
"""


@dataclass
class Receiver:
    """A server for lineage.

    Attributes:
        unanswered: The type of an event and the name of its job; such events get no answer.
    """

    unanswered: tuple[str, str]
    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: set[tuple[str, str]] = field(default_factory=set)

    def count(self) -> Counter[tuple[str, str]]:
        """How many events came by type and job."""
        return Counter((event["eventType"], event["job"]["name"]) for event in self.events)

    def datasets(self, side: str) -> dict[str, set[str]]:
        """The inputs or the outputs of each job that has any."""
        found: dict[str, set[str]] = {}
        for event in self.events:
            for dataset in event[side]:
                found.setdefault(event["job"]["name"], set()).add(f"{dataset['namespace']} {dataset['name']}")
        return found


@contextmanager
def receiving(unanswered: tuple[str, str]) -> Iterator[Receiver]:
    receiver, ended = Receiver(unanswered), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.events.append(event)
            receiver.requests.add((self.path, self.headers["Authorization"]))
            if (event["eventType"], event["job"]["name"]) == unanswered:
                ended.wait()
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        receiver.url = f"http://{LOOPBACK}:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield receiver
        ended.set()
        server.shutdown()
        thread.join()


def run(folder: Path, home: Path, params: dict[str, str], settings: dict[str, dict[str, str]]) -> str:
    """Run the DAG of a folder in an Airflow with its own database, and return the state of the run."""
    options = {
        f"AIRFLOW__{section.upper()}__{option.upper()}": value
        for section, options in settings.items()
        for option, value in options.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), json.dumps(params)],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_LINEAGE": json.dumps({"conn_type": "generic", "password": "the-api-key"}),
            "PYTHONPATH": str(DAGS),
            **options,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert "state: " in done.stdout, done.stdout + done.stderr
    return done.stdout.rpartition("state: ")[2].strip()


def test_a_server_receives_what_each_task_reads_and_writes_and_no_task_fails_if_it_does_not_answer(
    features: psycopg.Connection, data: Bucket, artifacts: Bucket, tmp_path: Path
) -> None:
    unanswered = ("START", "flight_features.create_staging")
    with receiving(unanswered) as receiver:
        settings = Lineage(f"{receiver.url}/lineage", "testing", "lineage").airflow_settings
        assert run(DAGS / "flight_features", tmp_path, {"first": DAY, "last": DAY}, settings) == "success"

    tasks = {"create_staging": 1, "tables.land": 3, "tables.stage": 3, "check_raw": 1, "build": 1, "check_features": 1}
    tasks |= {"publish": 1, "verify": 1, "drop_staging": 1}
    expected = {(kind, f"flight_features.{task}"): n for task, n in tasks.items() for kind in ("START", "COMPLETE")}
    expected |= {unanswered: 1 + RETRIES, ("COMPLETE", "flight_features"): 1}
    assert receiver.count() == expected

    raw, database = f"s3://{data.name} flight_features/raw", features.info
    assert receiver.datasets("inputs") == {"flight_features.tables.stage": {raw}, "flight_features.publish": {raw}}
    assert receiver.datasets("outputs") == {
        "flight_features.tables.land": {raw},
        "flight_features.publish": {
            f"postgres://{database.host}:{database.port} {database.dbname}.public.flight_features",
            f"s3://{data.name} flight_features/partitions",
            f"s3://{artifacts.name} flight_features",
        },
    }
    assert {event["job"]["namespace"] for event in receiver.events} == {"testing"}
    assert receiver.requests == {("/lineage/api/v1/lineage", "Bearer the-api-key")}


@pytest.fixture
def no_lineage() -> Iterator[None]:
    """Nothing is recorded yet, and what the test records is forgotten."""

    def forget() -> None:
        for recorded in (airflow_lineage.get_hook_lineage_collector, lineage.reads, lineage.writes):
            recorded.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def listener(no_lineage: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener for lineage, as the OpenLineage provider registers it."""
    monkeypatch.setattr(plugins_manager, "get_hook_lineage_readers_plugins", lambda: [object()])


def written() -> list[str]:
    return [output.asset.uri for output in airflow_lineage.get_hook_lineage_collector().collected_assets.outputs]


@pytest.mark.usefixtures("listener")
def test_the_partitions_of_a_year_are_one_folder_in_the_lineage(data: Bucket) -> None:
    keys = [steps.partition_key(date(2013, 1, 1) + timedelta(days=number)) for number in range(365)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: data.put(key, b""), keys))
    assert written() == [f"s3://{data.name}/flight_features/partitions"]


@pytest.mark.usefixtures("listener")
def test_the_lineage_has_folders_of_any_script(data: Bucket) -> None:
    data.put("größe #1/a/b/c.txt", b"")
    data.put("at the top.txt", b"")
    assert written() == [f"s3://{data.name}/gr%C3%B6%C3%9Fe%20%231/a", f"s3://{data.name}/"]


@pytest.mark.usefixtures("listener")
def test_what_has_no_place_in_the_lineage_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    lineage.writes("postgres:///features/public/table")
    assert "postgres:///features/public/table is missing in the lineage of this task: " in caplog.text


@pytest.mark.usefixtures("no_lineage")
def test_without_a_listener_no_collector_is_created(data: Bucket) -> None:
    data.put("folder/file", b"")
    assert airflow_lineage.get_hook_lineage_collector.cache_info().currsize == 0
