"""The DAGs of documents on the cluster, with documents in German, a PDF and a damaged file."""

from typing import Any

import pytest

from . import data_pod
from .airflow_client import Airflow
from .stack import wait_until

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


@pytest.mark.usefixtures("indexed")
def test_a_person_approves_who_answers_the_questions(airflow: Airflow) -> None:
    params = {"index": "handbuch", "prefix": PREFIX, "language": "german", "minimum_correct": 0}
    run = airflow.trigger("docs_assistant", params)
    airflow.answer("docs_assistant", run, "approval", "Approve", 600)
    assert airflow.finish("docs_assistant", run, seconds=600) == "success"
    assert result(airflow, "docs_assistant", run, "promote") == "1"
