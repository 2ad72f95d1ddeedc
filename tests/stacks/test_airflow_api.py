"""The tasks of a run, as the commands show them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ops.airflow_api import AirflowApi

TASKS = "/api/v2/dags/flights/dagRuns/run/taskInstances"


def instance(task: str, map_index: int, label: str | None) -> dict[str, Any]:
    return {
        "task_id": task,
        "state": "failed",
        "try_number": 1,
        "duration": 1.0,
        "map_index": map_index,
        "rendered_map_index": label,
    }


ANSWERS = {
    "/auth/token": {"access_token": "token"},
    f"{TASKS}?limit=100": {
        "task_instances": [
            instance("build", -1, None),
            instance("tables.land", 0, "flights"),
            instance("tables.land", 1, None),
        ]
    },
    f"{TASKS}/tables.land/logs/1?full_content=true&map_index=0": {"content": ["the log of flights"]},
    f"{TASKS}/build/logs/1?full_content=true&map_index=-1": {"content": ["the log of build"]},
}


@pytest.fixture
def api() -> Iterator[AirflowApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.answer(201)

        def do_GET(self) -> None:
            self.answer(200)

        def answer(self, code: int) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(ANSWERS[self.path]).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield AirflowApi(f"http://127.0.0.1:{server.server_port}", "admin", "password")
    server.shutdown()
    server.server_close()


def test_the_instances_of_a_mapped_task_have_different_names(api: AirflowApi) -> None:
    assert [task.name for task in api.tasks("flights", "run")] == ["build", "tables.land[flights]", "tables.land[1]"]


def test_the_log_of_an_instance_is_read(api: AirflowApi) -> None:
    build, flights, _ = api.tasks("flights", "run")
    assert api.log("flights", "run", flights) == ["the log of flights"]
    assert api.log("flights", "run", build) == ["the log of build"]
