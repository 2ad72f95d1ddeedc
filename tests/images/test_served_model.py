"""Models of any MLflow flavor, requests in MLflow's scoring protocol, and batches."""

import asyncio
import base64
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from mlflow.models import infer_signature
from PIL import Image
from sklearn.linear_model import LinearRegression

import batching
import request_limits
from batching import Batches
from infra.documents import REPOSITORY
from ml_common.serving import failure
from served_model import FAILURE, SEND_ROWS, Rows, ServedModel, Upload, failure_of
from serving import create_app
from tests.images.model_server import served, write_untrained

TABLE = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})

# A version that is served as in the pod: without the code of a checkout.
PREDICT = """
import io, sys
import mlflow.pyfunc
from served_model import ServedModel, Upload
print(ServedModel("m", "1", mlflow.pyfunc.load_model(sys.argv[1])).predict([Upload(io.BytesIO())]))
"""


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """A model of scikit-learn that needs no code: it doubles a and adds b."""
    folder = tmp_path_factory.mktemp("regression") / "model"
    fitted = LinearRegression().fit(TABLE, 2 * TABLE.a + TABLE.b)
    mlflow.sklearn.save_model(
        fitted, folder, signature=infer_signature(TABLE), pip_requirements=[], serialization_format="cloudpickle"
    )
    return ServedModel("regression", "7", mlflow.pyfunc.load_model(str(folder)))


@pytest.fixture
def rows(regression: ServedModel) -> Iterator[TestClient]:
    with TestClient(create_app(regression)) as client:
        yield client


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    write_untrained(folder, ("one", "two"), 32)
    return folder


@pytest.fixture(scope="module")
def classifier(version: Path) -> Iterator[ServedModel]:
    before = sys.path.copy()
    yield served(version)
    sys.path[:] = before


def picture(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (20, 20)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": ["a", "b"], "data": [[3, 1], [0, 5]]}},
        {"dataframe_records": [{"a": 3, "b": 1}, {"a": 0, "b": 5}]},
        {"inputs": {"a": [3, 0], "b": [1, 5]}},
        {"instances": [{"a": 3, "b": 1}, {"a": 0, "b": 5}]},
    ],
    ids=lambda document: next(iter(document)),
)
def test_a_model_without_code_predicts_rows_in_each_format_of_the_protocol(
    document: dict[str, Any], rows: TestClient
) -> None:
    answer = rows.post("/predict", json=document)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx([7, 5])
    assert answer.json()["model_version"] == "7"
    assert rows.get("/healthz").json() == {"status": "ok", "model": "regression", "version": "7"}


def test_rows_that_do_not_match_the_signature_are_answered_with_422_and_the_reason(rows: TestClient) -> None:
    answer = rows.post("/predict", json={"dataframe_records": [{"a": 1}]})
    assert answer.status_code == 422
    assert "missing inputs ['b']" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b"\xff", b'{"rows": [1]}', b'{"inputs": 1, "instances": 2}', b"[" * 99_999]
)
def test_the_answer_to_a_document_of_another_form_says_what_to_send(body: bytes, rows: TestClient) -> None:
    answer = rows.post("/predict", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status_code == 422
    assert answer.json() == {"detail": SEND_ROWS}


def test_a_model_of_rows_takes_no_files(rows: TestClient) -> None:
    answer = rows.post("/predict", files={"input": ("x", b"x")})
    assert (answer.status_code, answer.json()) == (422, {"detail": SEND_ROWS})


def test_a_document_over_the_limit_is_answered_with_413(rows: TestClient) -> None:
    body = b" " * (request_limits.MAX_JSON_BYTES + request_limits.MULTIPART_OVERHEAD_BYTES + 1)
    answer = rows.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json() == {"detail": "The request is larger than 4 MB; send a smaller one."}


def document(a: float) -> Rows:
    return Rows(b'{"dataframe_split": {"columns": ["a", "b"], "data": [[%f, 0]]}}' % a)


def calls(model: ServedModel) -> list[float]:
    """Return the number of calls of the model, and of inputs."""
    [metric] = model.call_sizes.collect()
    found = {sample.name: sample.value for sample in metric.samples}
    return [found["serving_batch_size_count"], found["serving_batch_size_sum"]]


def test_the_rows_of_several_requests_are_predicted_in_one_call(regression: ServedModel) -> None:
    before = calls(regression)
    answers = regression.predict([document(a) for a in range(5)])
    assert np.concatenate(answers) == pytest.approx([0, 2, 4, 6, 8])  # type: ignore[arg-type] # no errors
    assert [after - one for after, one in zip(calls(regression), before, strict=True)] == [1, 5]


def test_a_request_that_the_model_refuses_does_not_fail_the_others_of_its_batch(regression: ServedModel) -> None:
    bad = Rows(b'{"dataframe_split": {"columns": ["a", "b"], "data": [["x", 0]]}}')
    malformed = Rows(b"{")
    first, second, third, last = regression.predict([document(1), bad, malformed, document(2)])
    assert first == pytest.approx([2])
    assert isinstance(second, HTTPException)
    assert isinstance(third, HTTPException)
    assert (second.status_code, third.status_code, third.detail) == (422, 422, SEND_ROWS)
    assert "could not convert string to float: 'x'" in second.detail
    assert last == pytest.approx([4])


def test_an_unreadable_file_does_not_fail_the_others_of_its_batch(classifier: ServedModel) -> None:
    before = calls(classifier)
    uploads = [Upload(io.BytesIO(content)) for content in (picture(), b"", b"text", picture("RGBA"))]
    answers = [one for [one] in classifier.predict(uploads)]  # type: ignore[misc] # no errors
    assert [one.get("error", "").partition(";")[0] for one in answers] == [
        "",
        "The file is empty",
        "The file is not an image in a known format",
        "",
    ]
    assert [after - one for after, one in zip(calls(classifier), before, strict=True)] == [1, 4]


def test_a_model_of_files_also_takes_them_as_base64(classifier: ServedModel) -> None:
    inputs = [base64.b64encode(content).decode() for content in (picture(), b"text")]
    with TestClient(create_app(classifier)) as client:
        answer = client.post("/predict", json={"inputs": inputs}).json()
        alone = client.post("/predict", files={"image": ("x", picture())}).json()
    assert {**answer["predictions"][0], "model_version": "3"} == alone
    assert answer["predictions"][1]["status"] == 422


def test_images_that_would_wait_too_long_in_a_batch_are_to_be_sent_again(
    classifier: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = sys.modules[type(classifier._model.unwrap_python_model()).__module__]
    monkeypatch.setattr(code, "WAIT_SECONDS", -1)
    [[answer]] = classifier.predict([Upload(io.BytesIO(picture()))])  # type: ignore[misc] # no error
    error = failure_of(answer)
    assert error
    assert (error.status_code, error.headers) == (503, {"Retry-After": "1"})


class Oracle(mlflow.pyfunc.PythonModel):  # type: ignore[misc] # MLflow has no types
    """Returns one answer, however many questions there are."""

    def predict(self, model_input: list[str]) -> list[str]:
        if "bug" in model_input:
            raise ValueError("a bug")
        return [" and ".join(model_input)]


@pytest.fixture
def oracle(tmp_path: Path) -> ServedModel:
    mlflow.pyfunc.save_model(tmp_path / "model", python_model=Oracle(), pip_requirements=[])
    return ServedModel("oracle", "1", mlflow.pyfunc.load_model(str(tmp_path / "model")))


def test_a_model_whose_predictions_are_not_one_per_input_answers_each_request_alone(oracle: ServedModel) -> None:
    questions = [Rows(b'{"inputs": ["x", "y"]}'), Rows(b'{"inputs": ["z"]}')]
    assert oracle.predict(questions) == [["x and y"], ["z"]]


def test_an_error_in_the_code_of_a_model_fails_only_its_own_request(oracle: ServedModel) -> None:
    questions = [Rows(b'{"inputs": ["x"]}'), Rows(b'{"inputs": ["bug"]}')]
    good, bad = oracle.predict(questions)
    assert good == ["x"]
    assert isinstance(bad, HTTPException)
    assert (bad.status_code, bad.detail) == (500, "The server failed; see its log.")


def test_a_version_runs_the_code_that_it_carries(version: Path, tmp_path: Path) -> None:
    images = version / "code" / "image_classifier" / "images.py"
    now = images.read_text()
    images.write_text(now.replace('EMPTY = "the file is empty"', 'EMPTY = "nothing to see"'))
    try:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "images" / "serving")}
        done = subprocess.run(
            [sys.executable, "-c", PREDICT, version],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        images.write_text(now)
    assert "Nothing to see; send a smaller or another image file." in done.stdout, done.stderr[-2000:]


def test_the_server_reads_the_failures_that_models_return() -> None:
    assert set(failure(422, "No.")) == FAILURE
    error = failure_of(failure(422, "No."))
    assert error
    assert (error.status_code, error.detail, error.headers) == (422, "No.", None)
    assert failure_of({"error": 0.5}) is None


@pytest.mark.parametrize("folder", ["images/serving", "dags/ml_common"])
def test_what_all_models_share_names_none_of_them(folder: str) -> None:
    for file in (REPOSITORY / folder).rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert "image_classifier" not in file.read_text(), file


class Recorder:
    """A function whose calls end when a test lets them."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()

    def __call__(self, questions: list[int]) -> list[str]:
        self.batches.append(questions)
        assert self.free.wait(120)
        return [str(question) for question in questions]


async def asked(function: Recorder, sizes: dict[int, int]) -> list[str | BaseException]:
    """Ask question 0 and, when its call has begun, all others at once."""
    batches = Batches(function)
    first = asyncio.create_task(batches.answer(0, 1))
    while not function.batches:
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(batches.answer(question, size)) for question, size in sizes.items()]
    await asyncio.sleep(0.05)
    function.free.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_requests_that_come_during_a_call_are_the_next_batch() -> None:
    recorder = Recorder()
    assert asyncio.run(asked(recorder, dict.fromkeys(range(1, 6), 1))) == list("012345")
    assert recorder.batches == [[0], [1, 2, 3, 4, 5]]


def test_a_request_that_comes_when_there_is_no_call_does_not_wait_for_others() -> None:
    recorder = Recorder()
    recorder.free.set()
    started = time.monotonic()
    assert asyncio.run(asked(recorder, {})) == ["0"]
    assert time.monotonic() - started < 1
    assert recorder.batches == [[0]]


def test_a_batch_has_a_limited_number_of_requests() -> None:
    recorder = Recorder()
    asyncio.run(asked(recorder, dict.fromkeys(range(1, batching.MAX_BATCH + 2), 1)))
    assert [len(batch) for batch in recorder.batches] == [1, batching.MAX_BATCH, 1]


def test_the_requests_of_a_batch_fit_into_memory_together() -> None:
    recorder = Recorder()
    large = batching.MAX_BATCH_BYTES
    asyncio.run(asked(recorder, {1: large // 2, 2: large // 2, 3: large, 4: large * 2, 5: 1}))
    assert recorder.batches == [[0], [1, 2], [3], [4], [5]]


def test_a_request_that_waits_too_long_gets_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WAIT_SECONDS", 0.01)
    recorder = Recorder()
    first, error = asyncio.run(asked(recorder, {1: 1}))
    assert first == "0"
    assert isinstance(error, HTTPException)
    assert (error.status_code, error.headers) == (503, {"Retry-After": "1"})
    assert recorder.batches == [[0]]


def test_a_function_that_fails_ends_every_request_of_its_batch() -> None:
    def broken(_questions: list[int]) -> list[str]:
        raise ValueError("broken")

    async def ask() -> list[str | BaseException]:
        batches = Batches(broken)
        return await asyncio.gather(*[batches.answer(question, 1) for question in range(3)], return_exceptions=True)

    assert [str(error) for error in asyncio.run(ask())] == ["broken"] * 3
