"""The page and /ask of the model server, with a small model that answers questions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import PythonModel

import asking
from ml_common.serving import ANSWERS_QUESTIONS, failure
from served_model import ServedModel
from serving import create_app

REPLY = {"answer": "Ada [1]. And Bob.", "sources": []}


class Answers(PythonModel):  # type: ignore[misc] # MLflow has no types
    """Answers in two pieces, and fails as the question says."""

    def predict(self, model_input: list[str]) -> list[dict[str, Any]]:
        return [failure(503, "Ask again.") if question == "busy" else REPLY for question in model_input]

    def predict_stream(self, model_input: str) -> Iterator[dict[str, Any]]:
        if model_input == "busy":
            yield failure(503, "Ask again.")
            return
        yield {"sources": []}
        yield {"text": "Ada [1]. "}
        if model_input == "broken":
            raise RuntimeError("a detail that stays in the log")
        yield {"text": "And Bob."}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = tmp_path_factory.mktemp("answers")
    mlflow.pyfunc.save_model(
        folder, python_model=Answers(), metadata={ANSWERS_QUESTIONS: True}, pip_requirements=["mlflow-skinny"]
    )
    return ServedModel("docs_answers", "7", mlflow.pyfunc.load_model(str(folder)))


@pytest.fixture
def http(model: ServedModel) -> Iterator[TestClient]:
    with TestClient(create_app(model)) as client:
        yield client


def ask(http: TestClient, question: str, accepts: str = asking.EVENTS) -> Any:
    return http.post("/ask", json={"question": question}, headers={"Accept": accepts})


def events(text: str) -> list[Any]:
    return [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-1]]


def test_an_answer_is_one_object_or_a_stream_of_events_with_the_version(http: TestClient) -> None:
    assert ask(http, "Who?", "application/json").json() == {**REPLY, "model_version": "7"}
    assert events(ask(http, "Who?").text) == [
        {"sources": [], "model_version": "7"},
        {"text": "Ada [1]. "},
        {"text": "And Bob."},
    ]


def test_a_failure_of_the_model_is_the_response_and_midway_the_last_event(http: TestClient) -> None:
    for accepts in (asking.EVENTS, "application/json"):
        response = ask(http, "busy", accepts)
        assert (response.status_code, response.json()) == (503, {"detail": "Ask again."})
        assert response.headers["Retry-After"]
    *_, last = events(ask(http, "broken").text)
    assert last == {"error": "The server failed; see its log."}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"question": " "}', b'{"question": 1}', json.dumps({"question": "x" * 2001}).encode()]
)
def test_a_body_without_a_question_is_one_sentence(http: TestClient, body: bytes) -> None:
    response = http.post("/ask", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()) == (422, {"detail": asking.SEND_QUESTION})


def test_a_client_that_asks_too_often_waits(http: TestClient) -> None:
    statuses = [ask(http, "Who?").status_code for _ in range(asking.QUESTIONS_PER_MINUTE + 1)]
    assert statuses == [200] * asking.QUESTIONS_PER_MINUTE + [429]
    response = ask(http, "Who?")
    assert response.json() == {"detail": asking.TOO_MANY}
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert http.get("/healthz").status_code == 200


def test_the_page_runs_only_its_own_script_and_loads_nothing(http: TestClient) -> None:
    response = http.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    [script] = re.findall("<script>(.*?)</script>", response.text, re.DOTALL)
    assert asking._hash(script) in policy
    assert asking._hash(script) != asking._hash(script + " ")
    assert not re.findall(r"(?:src|href)=|innerHTML|https?://", response.text)


def test_questions_are_counted_by_their_path(http: TestClient) -> None:
    ask(http, "Who?")
    http.get("/")
    text = http.get("/metrics").text
    assert 'serving_requests_total{path="/ask",status="200"} 1.0' in text
    assert 'serving_requests_total{path="/",status="200"} 1.0' in text


def test_other_models_have_no_page(http: TestClient, tmp_path: Path) -> None:
    mlflow.pyfunc.save_model(tmp_path / "m", python_model=Answers(), pip_requirements=["mlflow-skinny"])
    other = ServedModel("other", "1", mlflow.pyfunc.load_model(str(tmp_path / "m")))
    with TestClient(create_app(other)) as client:
        assert client.get("/").status_code == 404
        assert ask(client, "Who?").status_code == 404
