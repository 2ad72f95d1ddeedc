"""The requests of the DAG smoke_test to the platform."""

import logging
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket
from smoke_test import steps


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An MLflow whose answer a test may change."""
    answer: dict[str, Any] = {"code": 200, "path": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.update(path=self.path, authorization=self.headers["Authorization"])
            self.send_response(answer["code"])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    yield answer
    server.shutdown()
    server.server_close()


def test_an_object_store_that_answers_passes_and_is_not_written_to(artifacts: Bucket) -> None:
    steps.reach_object_store()
    assert list(artifacts.list("")) == []


def test_a_missing_bucket_is_reported(artifacts: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS_BUCKET", "no-such-bucket")
    with pytest.raises(PermanentError, match="list s3://no-such-bucket/mlflow/"):
        steps.reach_object_store()


def test_an_object_store_that_is_down_is_reported(artifacts: Bucket, s3: ThreadedMotoServer) -> None:
    s3.stop()
    try:
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            steps.reach_object_store()
    finally:
        s3.start()


def test_mlflow_gets_a_search_with_the_tasks_login(health: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "tasks")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim ü")
    steps.reach_model_registry()
    assert health["path"].startswith("/api/2.0/mlflow/registered-models/search")
    assert b64decode(health["authorization"].removeprefix("Basic ")).decode() == "tasks:geheim ü"


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_login_is_reported_and_not_retried(health: dict[str, Any], code: int) -> None:
    health["code"] = code
    with pytest.raises(PermanentError, match=rf"refuses this task's login \({code}\): check MLFLOW_TRACKING_USERNAME"):
        steps.reach_model_registry()


def test_a_failure_of_mlflow_is_reported(health: dict[str, Any]) -> None:
    health["code"] = 503
    with pytest.raises(ServiceUnavailableError, match=r"answered 503 to a search for models: check its log\.$"):
        steps.reach_model_registry()


def test_an_mlflow_that_is_down_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        steps.reach_model_registry()


def test_an_unset_address_of_mlflow_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(PermanentError, match="MLFLOW_TRACKING_URI is not set"):
        steps.reach_model_registry()


@pytest.fixture
def denied_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An open port that network policies should deny."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        monkeypatch.setattr(steps, "DENIED_PORT", server.getsockname()[1])
        monkeypatch.setattr(steps, "ENFORCEMENT_SECONDS", 0)
        monkeypatch.setattr(steps, "POLL_INTERVAL_SECONDS", 0)
        yield


def test_a_task_that_can_use_a_denied_port_fails_if_policies_are_required(denied_port: None) -> None:
    with pytest.raises(PermanentError, match=r"^Nothing enforces network policies: this task can connect to "):
        steps.be_confined(required=True)


def test_a_task_that_can_use_a_denied_port_warns_otherwise(denied_port: None, caplog: pytest.LogCaptureFixture) -> None:
    steps.be_confined(required=False)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_task_that_cannot_use_a_denied_port_passes(denied_port: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "DENIED_PORT", 9)
    steps.be_confined(required=True)


def test_policies_may_take_effect_some_seconds_after_the_start(
    denied_port: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, True, False])
    monkeypatch.setattr(steps, "ENFORCEMENT_SECONDS", 60)
    monkeypatch.setattr(steps, "_can_connect", lambda _: next(answers))
    steps.be_confined(required=True)
    assert list(answers) == []


def test_a_laptop_has_no_network_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__METRICS__STATSD_HOST", raising=False)
    steps.be_confined(required=True)


def test_an_unknown_server_is_reported(denied_port: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "airflow-statsd.invalid")
    with pytest.raises(ServiceUnavailableError, match=r"^airflow-statsd\.invalid is unknown: check"):
        steps.be_confined(required=True)
