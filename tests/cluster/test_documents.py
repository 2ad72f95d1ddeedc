"""The DAGs of documents on the cluster, with documents in German, a PDF and a damaged file, and a server of a model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from . import chat_program, data_pod
from .airflow_client import Airflow, ForwardedPort
from .stack import NAMESPACE, get, kubectl, wait_until

PREFIX = "docs_index/handbuch/"
STORE_DOCUMENTS = f"""
import io, os
import boto3
from matplotlib.figure import Figure

figure, pdf = Figure(), io.BytesIO()
figure.text(0.1, 0.5, "Der Firmenwagen braucht Motorenöl der Sorte 5W-30.")
figure.savefig(pdf, format="pdf")
documents = {{
    "haus.md": "# Haus\\n\\n## Müll\\n\\nDer Restmüll wird am Dienstag abgeholt.\\n".encode(),
    "netz.html": "<h1>Netz</h1><p>Der Drucker heißt Gutenberg.</p>".encode("utf-8-sig"),
    "wagen.pdf": pdf.getvalue(),
    "kaputt.pdf": b"%PDF-1.7",
    "questions.yaml": '''
- {{question: "Wann wird der Restmüll abgeholt?", file: haus.md, contains: am Dienstag}}
- {{question: "Wie heißt der Drucker?", file: netz.html, contains: Gutenberg}}
- {{question: "Welches Öl braucht der Wagen?", file: wagen.pdf, contains: 5W-30}}
- {{question: "Wie heißt der Drucker im Keller?", answerable: false}}
'''.encode(),
}}
for name, content in documents.items():
    boto3.client("s3").put_object(Bucket=os.environ["DATA_BUCKET"], Key="{PREFIX}" + name, Body=content)
"""


@pytest.fixture(scope="module")
def indexed(airflow: Airflow) -> str:
    """Index the documents; return the run."""
    wait_until(lambda: airflow.dags() >= {"docs_index", "docs_assistant"}, "the DAGs")
    data_pod.run(STORE_DOCUMENTS)
    params = {"index": "handbuch", "prefix": PREFIX, "language": "german", "minimum_hit_rate": 1}
    run = airflow.trigger("docs_index", params)
    assert airflow.finish("docs_index", run, seconds=600) == "success"
    return run


def result(airflow: Airflow, dag: str, run: str, task: str) -> Any:
    return airflow.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value")["value"]


def test_documents_in_another_language_are_indexed_and_answer_their_questions(airflow: Airflow, indexed: str) -> None:
    assert result(airflow, "docs_index", indexed, "embed") == {"embedded": 3, "added": 3, "kept": 0, "deleted": 0}
    version = result(airflow, "docs_index", indexed, "collect")["version"]
    assert result(airflow, "docs_index", indexed, "swap") == version
    assert "kaputt.pdf to quarantine: it is not a readable PDF" in airflow.log("docs_index", indexed, "collect")


KEY = "sk-of-the-cluster"


@pytest.fixture
def model(airflow: Airflow) -> Iterator[None]:
    """A server with the API of OpenAI in another namespace, and the Airflow connection `small` to it."""
    pod = {
        "metadata": {"name": "model", "labels": {"app": "model"}},
        "spec": {
            "containers": [
                {
                    "name": "model",
                    "image": data_pod.image(),
                    "command": ["python", "-c", Path(chat_program.__file__).read_text()],
                    "env": [{"name": "KEY", "value": KEY}],
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                }
            ],
            "terminationGracePeriodSeconds": 1,
        },
    }
    service = {
        "metadata": {"name": "model"},
        "spec": {"selector": {"app": "model"}, "ports": [{"port": chat_program.PORT}]},
    }
    for kind, manifest in (("Pod", pod), ("Service", service)):
        kubectl("apply", "-n", "default", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": kind, **manifest}))
    wait_until(lambda: get("pod", "model", namespace="default")["status"]["phase"] == "Running", "the model")
    connection = {
        "connection_id": "small",
        "conn_type": "openai",
        "host": f"http://model.default.svc:{chat_program.PORT}/v1",
    }
    airflow.request("POST", "connections", json={**connection, "password": KEY, "extra": json.dumps({"model": "m"})})
    yield
    kubectl("delete", "pod,service", "model", "-n", "default")
    # Later tests train a model, which requests a whole CPU core: more than two cores have left with this server.
    kubectl("delete", "deployment", "docs-answers", "-n", NAMESPACE, "--ignore-not-found")


@pytest.mark.usefixtures("model")
def test_a_person_approves_a_model_that_then_answers_questions_with_its_key(airflow: Airflow, indexed: str) -> None:
    params = {"index": "handbuch", "prefix": PREFIX, "language": "german", "connections": ["small"]}
    run = airflow.trigger("docs_assistant", params)
    airflow.answer("docs_assistant", run, "approval", "Approve", 600)
    assert airflow.finish("docs_assistant", run, seconds=600) == "success"
    assert result(airflow, "docs_assistant", run, "promote") == "1"

    with ForwardedPort("docs-answers", 8080) as url:
        assert "Ask the documents" in httpx.get(url).text
        answer = httpx.post(f"{url}/ask", json={"question": "Wann wird der Restmüll abgeholt?"}, timeout=60).json()
    assert "am Dienstag abgeholt" in answer["answer"]
    assert (answer["answered_by"], answer["notice"]) == ("m", "")
    assert answer["index_version"] == result(airflow, "docs_index", indexed, "collect")["version"]
    assert KEY not in json.dumps(get("deployment", "docs-answers"))
