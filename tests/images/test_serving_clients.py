"""Clients that are slow, many or malformed, over real connections."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

import batching
import request_limits
from image_classifier.image_decoder import ImageDecoder
from image_classifier.images import MAX_BYTES, MAX_DECODING_BYTES
from ops.loopback import LOOPBACK
from served_model import ServedModel
from serving import create_app, listen, server
from tests.images.model_server import served, write_untrained
from tests.servers import free_port, wait_for

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
KEPT_AFTER_UPLOADS = 120 * 2**20
IMPORT_SECONDS = 360  # of torch, on a busy machine


def photograph(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 1)
    monkeypatch.setattr(batching, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(request_limits, "REQUEST_SECONDS", 20)
    monkeypatch.setattr(request_limits, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(request_limits, "MAX_UPLOADS", 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    folder = tmp_path_factory.mktemp("version")
    write_untrained(folder, ("one", "two"), 32)
    before = sys.path.copy()
    yield served(folder)
    sys.path[:] = before


@pytest.fixture
def port(model: ServedModel) -> Iterator[int]:
    listener = listen(LOOPBACK, 0)
    running = server(create_app(model))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    number = int(listener.getsockname()[1])
    try:
        wait_for(f"http://{LOOPBACK}:{number}/healthz")
        yield number
    finally:
        running.should_exit = True
        thread.join()


@contextmanager
def connection(port: int, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS) as client:
        client.sendall(sent)
        yield client


def rest(client: socket.socket) -> bytes:
    """Return everything that arrives until the server closes the connection."""
    received = b""
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def answer(received: bytes) -> tuple[int, str]:
    """Return the status and sentence of an answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["detail"]


def drip(client: socket.socket, piece: bytes) -> None:
    """Send a piece repeatedly until the server closes the connection."""
    try:
        while True:
            client.sendall(piece)
            time.sleep(0.05)
    except OSError:
        pass


UPLOAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
)
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'


def healthy(port: int) -> bool:
    return all(
        httpx.get(f"http://{LOOPBACK}:{port}{path}", timeout=5, trust_env=False).status_code == 200
        for path in ("/healthz", "/metrics")
    )


def predict(port: int, file: bytes) -> httpx.Response:
    return httpx.post(
        f"http://{LOOPBACK}:{port}/predict", files={"image": ("x", file)}, timeout=PATIENCE_SECONDS, trust_env=False
    )


def test_a_connection_without_a_request_is_closed(port: int) -> None:
    with connection(port) as client:
        assert rest(client) == b""


def test_a_request_whose_headers_do_not_end_is_answered_with_408(port: int) -> None:
    with connection(port, b"POST /predict HTTP/1.1\r\nHost: x\r\n") as client:
        assert answer(rest(client)) == (408, request_limits.TOO_SLOW)


def test_slow_headers_are_not_waited_for(port: int) -> None:
    with connection(port, b"GET /healthz HTTP/1.1\r\n") as client, ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip, client, b"a: b\r\n")
        received = rest(client)
        dripping.result(PATIENCE_SECONDS)
    assert answer(received) == (408, request_limits.TOO_SLOW)


def test_a_slow_body_is_answered_with_408(port: int) -> None:
    with connection(port, UPLOAD + PART) as client, ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip, client, b"x")
        received = rest(client)
        dripping.result(PATIENCE_SECONDS)
    assert answer(received) == (408, request_limits.TOO_SLOW)


def test_a_body_that_stops_is_answered_with_408(port: int) -> None:
    with connection(port, UPLOAD + PART) as client:
        assert answer(rest(client)) == (408, request_limits.TOO_SLOW)


def test_a_connection_is_closed_after_its_answer_if_no_other_request_comes(port: int) -> None:
    with connection(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        assert rest(client).startswith(b"HTTP/1.1 200")


def test_a_body_that_is_not_read_does_not_hold_the_connection(port: int) -> None:
    with (
        connection(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n") as client,
        ThreadPoolExecutor(1) as pool,
    ):
        dripping = pool.submit(drip, client, b"x")
        assert rest(client).startswith(b"HTTP/1.1 200")
        dripping.result(PATIENCE_SECONDS)


def test_the_connection_of_a_client_that_does_not_read_its_answers_is_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "REQUEST_SECONDS", 1)
    with connection(port) as client, ThreadPoolExecutor(1) as pool:
        pool.submit(drip, client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000).result(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 17_000],
    ids=["nonsense", "large headers"],
)
def test_an_invalid_request_is_answered_with_400(sent: bytes, port: int) -> None:
    with connection(port, sent) as client:
        assert answer(rest(client)) == (400, request_limits.INVALID)


def test_many_idle_connections_do_not_block_a_probe(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "HEADER_SECONDS", 60)
    process = psutil.Process()
    before = len(process.net_connections())
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connection(port, b"GET /healthz HTTP/1.1\r\n"))
        assert healthy(port)
        # Both ends belong to this process; the client's are all there.
        assert len(process.net_connections()) - before <= 50 + request_limits.MAX_CONNECTIONS


def test_slow_uploads_are_limited_and_do_not_block_probes(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 60)
    with ExitStack() as stack:
        for _ in range(request_limits.MAX_UPLOADS):
            stack.enter_context(connection(port, UPLOAD + PART))
        assert healthy(port)
        refused = predict(port, photograph(20, 20))
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert refused.json() == {"detail": request_limits.BUSY}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while predict(port, photograph(20, 20)).status_code != 200:
        assert time.monotonic() < deadline


def test_images_wait_for_a_limited_time_and_probes_do_not_wait(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    is_decoding, may_end = threading.Event(), threading.Event()

    def decode(_decoder: ImageDecoder, _file: bytes, image_size: int) -> np.ndarray:
        is_decoding.set()
        assert may_end.wait(2 * PATIENCE_SECONDS)
        return np.zeros((image_size, image_size, 3), dtype=np.uint8)

    monkeypatch.setattr(ImageDecoder, "decode", decode)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(predict, port, photograph(20, 20))
        # The others do not come into the same batch.
        assert is_decoding.wait(PATIENCE_SECONDS)
        others = [pool.submit(predict, port, photograph(20, 20)) for _ in range(2)]
        try:
            assert healthy(port)
            assert [one.result().status_code for one in others] == [503, 503]
        finally:
            may_end.set()
        assert first.result().status_code == 200
    lines = httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False).text.splitlines()
    assert 'serving_requests_total{path="/predict",status="503"} 2.0' in lines


def test_a_body_without_a_length_is_read_up_to_the_limit(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 60)

    def chunks(file: bytes) -> Iterator[bytes]:
        yield PART
        yield from (file[start : start + 65536] for start in range(0, len(file), 65536))
        yield b"\r\n--x--\r\n"

    def post(file: bytes) -> int:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        address = f"http://{LOOPBACK}:{port}/predict"
        return httpx.post(address, content=chunks(file), headers=headers, timeout=60, trust_env=False).status_code

    assert post(photograph(20, 20)) == 200
    assert post(bytes(MAX_BYTES + 100_000)) == 413


# Starts the program in its arguments. What is proven is how much memory decoding takes, not how long on a busy machine.
PATIENT = """
import runpy, sys
from image_classifier import image_decoder
image_decoder.DECODING_SECONDS = 60
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_several_large_images_at_once_take_the_memory_of_one_and_free_it() -> None:
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in ("dags", "images/serving")),
    }
    program = REPOSITORY / "tests" / "images" / "model_server.py"
    bomb = photograph(8000, 6250)
    with subprocess.Popen([sys.executable, "-c", PATIENT, program, str(port)], env=environment) as process:
        try:
            wait_for(f"http://{LOOPBACK}:{port}/healthz", IMPORT_SECONDS)
            assert predict(port, photograph(20, 20)).status_code == 200
            peak = idle = _memory(process.pid)
            with ThreadPoolExecutor(6) as pool:
                answers = [pool.submit(predict, port, bomb) for _ in range(6)]
                while not all(one.done() for one in answers):
                    peak = max(peak, _memory(process.pid))
                    time.sleep(0.02)
            assert 200 in {one.result().status_code for one in answers}
            assert {one.result().status_code for one in answers} <= {200, 503}
            assert peak - idle < MAX_DECODING_BYTES
            with ThreadPoolExecutor(8) as pool:
                assert {one.status_code for one in pool.map(partial(predict, port), [bytes(MAX_BYTES)] * 8)} <= {
                    422,
                    503,
                }
            assert _memory(process.pid) - idle < KEPT_AFTER_UPLOADS
            (decoder,) = psutil.Process(process.pid).children()
            assert not any("torch" in found.path for found in decoder.memory_maps())
        finally:
            process.terminate()
    assert not psutil.wait_procs([decoder], timeout=PATIENCE_SECONDS)[1]


def _memory(server_id: int) -> int:
    """Return the memory of the server and its decoding process, in bytes."""
    leader = psutil.Process(server_id)
    return sum(one.memory_info().rss for one in (leader, *leader.children()))
