"""Runs in Weights & Biases: offline in the artifacts bucket, and online at a server."""

import base64
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from mlflow.entities import Metric
from wandb.sdk.lib.service.service_connection import ServiceConnection

from ml_common import wandb_runs
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket
from ml_common.registry import Run
from ops.loopback import LOOPBACK

KEY = "0123456789" * 4
CHILD = Run("childkey", "logistic", {"candidate": "logistic"}, [Metric("auc", 0.67, 0, 0)])
RUN = Run(
    "parentkey",
    "2013-04-29 boosting",
    {"candidate": "boosting"},
    [Metric("auc", 0.71, 0, 0), Metric("epoch_loss", 0.5, 0, 1), Metric("epoch_loss", 0.25, 0, 2)],
    {"card.html": b"the card"},
    [CHILD],
)


class Server:
    """A server that refuses every key, and a proxy that answers nothing."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.requests: list[str] = []


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.requests.append(self.headers["Authorization"] or "")
            self.send_response(401)
            self.end_headers()

        do_GET = do_CONNECT = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as listening:
        found = Server(f"http://{LOOPBACK}:{listening.server_port}")
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield found
        listening.shutdown()
        thread.join()


def test_offline_a_run_with_its_card_and_candidates_is_an_archive_for_wandb_sync_and_nothing_is_sent(
    artifacts: Bucket, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, server.address)
    wandb_runs.record("flight_delays", RUN, "flight_model/wandb/")
    wandb_runs.record("flight_delays", RUN, "flight_model/wandb/")
    [stored] = [entry.key for entry in artifacts.list("")]
    assert stored == "flight_model/wandb/parentkey.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(artifacts.get(stored))) as archive:
        files = {
            name.partition("/")[2]: archive.extractfile(name).read()  # type: ignore[union-attr]
            for name in archive.getnames()
            if archive.getmember(name).isfile()
        }
    assert files["files/card.html"] == b"the card"
    for run in (RUN, CHILD):
        recorded = files[f"run-{run.training_key}.wandb"]
        for text in ("flight_delays", run.name, str(run.params["candidate"]), "auc"):
            assert text.encode() in recorded
    assert server.requests == []


def test_offline_the_archive_is_complete_however_late_the_runs_are_written(
    artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(ServiceConnection, "inform_finish", lambda *_, **__: None)
    wandb_runs.record("flight_delays", RUN, "flight_model/wandb/")
    with tarfile.open(fileobj=io.BytesIO(artifacts.get("flight_model/wandb/parentkey.tar.gz"))) as archive:
        recorded = [archive.extractfile(entry).read() for entry in archive if entry.name.endswith(".wandb")]  # type: ignore[union-attr]
    assert len(recorded) == 2
    assert all(b"flight_delays" in each and b"auc" in each for each in recorded)


def test_online_the_key_of_the_connection_is_sent_to_its_host_and_a_refusal_is_tried_again(
    artifacts: Bucket, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "generic", "host": server.address, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_WANDB", json.dumps(connection))
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(
        ServiceUnavailableError, match=r"^Weights & Biases did not take the run '2013-04-29 "
    ) as refused:
        wandb_runs.record("flight_delays", RUN, "flight_model/wandb/")
    assert KEY not in str(refused.value)
    assert set(server.requests) == {"Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()}
    assert list(artifacts.list("")) == []


def test_online_without_a_connection_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(PermanentError, match=r"^The Airflow connection `wandb` is not defined: define it with the API"):
        wandb_runs.record("flight_delays", RUN, "flight_model/wandb/")


@pytest.mark.parametrize("mode", ["disabled", None])
def test_where_it_is_off_nothing_is_recorded_or_imported(
    mode: str | None, artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    wandb_runs.record("flight_delays", RUN, "flight_model/wandb/")
    assert list(artifacts.list("")) == []
