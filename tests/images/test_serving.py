import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import request_limits
from image_classifier import image_decoder
from image_classifier.images import MAX_BYTES, MAX_DECODING_BYTES
from image_classifier.model import Classifier
from ml_common.serving_manifests import ServingSettings, manifests
from served_model import ServedModel, StartError
from serving import create_app, listen
from tests.images.model_server import served, write_untrained

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Classifier]:
    """The files of a version, and the classifier that is in them."""
    folder = tmp_path_factory.mktemp("version")
    return folder, write_untrained(folder, ("one", "two", "drei ä"), 32)


@pytest.fixture
def classifier(saved: tuple[Path, Classifier]) -> Classifier:
    return saved[1]


@pytest.fixture
def model(saved: tuple[Path, Classifier]) -> Iterator[ServedModel]:
    before = sys.path.copy()
    yield served(saved[0])
    sys.path[:] = before


@pytest.fixture
def http(model: ServedModel) -> Iterator[TestClient]:
    with TestClient(create_app(model)) as client:
        yield client


def picture(mode: str = "RGB", kind: str = "PNG", side: int = 20) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG")])
def test_an_image_is_classified_as_the_model_does(
    mode: str, kind: str, http: TestClient, classifier: Classifier
) -> None:
    file = picture(mode, kind)
    answer = http.post("/predict", files={"image": ("bild ä.png", file)})
    assert answer.status_code == 200
    body = answer.json()
    assert body["probabilities"] == pytest.approx(classifier.classify(file))
    assert body["class"] == max(body["probabilities"], key=body["probabilities"].get)
    assert body["probability"] == max(body["probabilities"].values())
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert body["model_version"] == "3"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The file is empty"),
        (b"hello", "The file is not an image"),
        (picture("RGB", "BMP")[:300], "The file is truncated or damaged"),
    ],
    ids=["empty", "text", "truncated"],
)
def test_a_bad_file_is_answered_with_422_and_one_sentence(content: bytes, reason: str, http: TestClient) -> None:
    answer = http.post("/predict", files={"image": ("x.png", content)})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (picture("1", side=10_000), "The image has more than 50 megapixels"),
        (picture("RGB", "WEBP", side=5_000), "The image needs more than 320 MB of memory in its format"),
    ],
    ids=["decompression bomb", "large WebP"],
)
def test_an_image_that_needs_too_much_memory_is_answered_with_413(
    content: bytes, reason: str, http: TestClient
) -> None:
    answer = http.post("/predict", files={"image": ("x.png", content)})
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith(reason)


def test_an_image_that_takes_too_long_is_stopped_and_the_next_one_is_answered(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_decoder, "DECODING_SECONDS", 0.1)
    answer = http.post("/predict", files={"image": ("x.png", picture("LA", side=7_000))})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("The image takes longer than")
    monkeypatch.undo()
    assert http.post("/predict", files={"image": ("x.png", picture())}).status_code == 200


def test_a_decoding_process_that_is_killed_is_started_again(http: TestClient, model: ServedModel) -> None:
    decoder = psutil.Process(model._model.unwrap_python_model().decoder._process.pid)
    decoder.suspend()
    killer = threading.Timer(1, decoder.kill)
    killer.start()
    answer = http.post("/predict", files={"image": ("x.png", picture())})
    killer.join()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert http.post("/predict", files={"image": ("x.png", picture())}).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux alone counts memory in this way")
def test_the_decoding_process_gets_no_more_memory_than_an_image_within_the_limits_needs() -> None:
    program = (
        "import sys; from image_classifier import image_decoder; assert 'torch' not in sys.modules; "
        "image_decoder._limit(); "
        "bytearray(image_decoder.MAX_DECODING_BYTES); bytearray(2 * image_decoder.MAX_DECODING_BYTES)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "dags")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "MemoryError"


@pytest.mark.parametrize(
    "form",
    [
        {"files": [("image", ("x.png", b"\0"))] * 2},
        {"files": {"image": ("x.png", b"\0")}, "data": {f"field {number}": "x" for number in range(9)}},
        {"files": {"image": ("x.png", b"\0")}, "data": {"field": "x" * 100_000}},
        {"files": {"image": ("x.png", b"\0", "image/png", {"X-Long": "x" * 100_000})}},
        {"data": {"image": "x"}},
        {"data": {f"field {number}": "x" for number in range(2_000)}},
        {"content": b"no boundary", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"--x\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"json": {"image": "x"}},
        {},
    ],
    ids=["two files", "fields", "long field", "long header", "text", "url", "no boundary", "nonsense", "JSON", "none"],
)
def test_the_answer_to_an_invalid_form_says_what_to_send(form: dict[str, Any], http: TestClient) -> None:
    answer = http.post("/predict", **form)
    assert answer.status_code == 422
    assert answer.json() == {"detail": "Send the image file as the multipart field `image`."}


def test_a_form_may_have_a_few_short_fields_in_addition_to_the_image(http: TestClient) -> None:
    answer = http.post("/predict", files={"image": ("x.png", picture())}, data={"note": "x", "user": "y"})
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("GET", "/predict", 405)])
def test_the_answer_to_another_path_or_method_lists_the_endpoints(
    method: str, path: str, status: int, http: TestClient
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["detail"] == "Send inputs to /predict by POST, or read /healthz or /metrics by GET."


def test_a_failure_of_the_server_is_answered_with_one_sentence(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_decoder.ImageDecoder, "decode", lambda *_: 1 / 0)
    client = TestClient(create_app(model), raise_server_exceptions=False)
    answer = client.post("/predict", files={"image": ("x.png", picture())})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "The server failed; see its log."}


def test_the_answer_to_a_request_without_an_image_says_what_to_send(http: TestClient) -> None:
    answer = http.post("/predict", files={"file": ("x.png", picture())})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Send the image file as the multipart field `image`."


def test_a_file_over_the_limit_is_answered_with_413(http: TestClient) -> None:
    answer = http.post("/predict", files={"image": ("x.png", b"\0" * (MAX_BYTES + 1))})
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("The file is larger than 20 MB")


def test_a_body_far_over_the_limit_is_refused_before_it_is_read(http: TestClient) -> None:
    answer = http.post("/predict", files={"image": ("x.png", b"\0" * (MAX_BYTES * 2))})
    assert answer.status_code == 413


def test_health_names_model_and_version(http: TestClient) -> None:
    assert http.get("/healthz").json() == {"status": "ok", "model": "image_classifier", "version": "3"}


def test_metrics_count_requests_by_path_and_status(http: TestClient) -> None:
    http.post("/predict", files={"image": ("x.png", picture())})
    http.post("/predict", files={"image": ("x.png", b"")})
    http.get("/no/such/path")
    lines = http.get("/metrics").text.splitlines()
    assert 'serving_requests_total{path="/predict",status="200"} 1.0' in lines
    assert 'serving_requests_total{path="/predict",status="422"} 1.0' in lines
    assert 'serving_requests_total{path="unknown",status="404"} 1.0' in lines
    assert 'serving_request_seconds_count{path="/predict"} 2.0' in lines
    assert 'serving_model_info{model="image_classifier",version="3"} 1.0' in lines


def test_the_pod_has_memory_for_an_image_and_a_volume_for_the_uploads() -> None:
    settings = ServingSettings(name="x", namespace="x", image="x", service_account="x")
    _service, deployment = manifests(settings, "1")
    pod = deployment["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    for_images = quantity(resources["limits"]["memory"]) - quantity(resources["requests"]["memory"])
    assert for_images >= MAX_DECODING_BYTES + image_decoder.WORKING_BYTES
    uploads = request_limits.MAX_UPLOADS * (MAX_BYTES + request_limits.MULTIPART_OVERHEAD_BYTES)
    assert quantity(pod["volumes"][0]["emptyDir"]["sizeLimit"]) >= uploads


def quantity(text: str) -> int:
    return int(text[:-2]) * {"Mi": 2**20, "Gi": 2**30}[text[-2:]]


def test_two_processes_may_share_the_port() -> None:
    first = listen("127.0.0.1", 0)
    second = listen("127.0.0.1", first.getsockname()[1])
    first.close()
    second.close()


def test_a_port_that_another_program_uses_is_named() -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(StartError, match=f"Cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "Could not look up the champion: MLFLOW_TRACKING_URI is not set"),
        ("http://127.0.0.1:9", "Could not look up the champion: MLflow at http://127.0.0.1:9 does not answer"),
    ],
)
def test_a_process_that_cannot_load_its_model_ends_with_one_sentence(address: str, sentence: str) -> None:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": address,
        "MODEL_NAME": "churn",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "NO_PROXY": "127.0.0.1",
    }
    program = REPOSITORY / "images" / "serving" / "serving.py"
    done = subprocess.run(
        [sys.executable, program, "--port", "0"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in done.stderr


def test_answers_are_json_for_names_of_any_script(http: TestClient) -> None:
    body = json.loads(http.post("/predict", files={"image": ("x.png", picture())}).content)
    assert set(body["probabilities"]) == {"one", "two", "drei ä"}
