"""The steps of the DAG docs_index with the real embedding model, a real PostgreSQL with pgvector and an S3 server."""

import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics
from threading import Event, Thread

import numpy as np
import psycopg
import pytest
import yaml
from matplotlib.figure import Figure

from docs_index import pgvector_search, steps
from docs_index.evaluation import Evaluation
from docs_index.outputs import Embedded
from docs_index.search import HYBRID, TEXT, VECTOR
from docs_index.store import PgvectorStore
from ml_common import embedding
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket, artifacts_bucket

REPOSITORY = Path(__file__).parents[2]
PREFIX = "docs_index/documents/"
PYTHON_QUESTIONS = Path(__file__).with_name("python_questions.yaml")

QUESTIONS = [
    {"question": "Who feeds the cat?", "file": "home.md", "contains": "Ada feeds the cat"},
    {"question": "When is the rubbish collected?", "file": "home.md", "contains": "collected on Tuesday"},
]
HOME = (
    "# Home\n\n## Animals\n\nAda feeds the cat in the morning.\n\n## Rubbish\n\nThe rubbish is collected on Tuesday.\n"
)

pytestmark = pytest.mark.usefixtures("features", "data", "artifacts")


def run(
    minimum: float = 0.8, index: str = "docs", git_url: str | None = None, pages: Sequence[str] = ()
) -> tuple[str, Embedded, Evaluation]:
    """Run the steps as the DAG does; return the version, what was embedded, and what was measured."""
    chunked = [steps.chunk(keys, PREFIX) for keys in steps.fetch(PREFIX, git_url, None, "docs", pages)]
    collected = steps.collect(index, PREFIX, "english", chunked)
    embedded = steps.embed(index, "english", collected)
    evaluated = steps.evaluate(index, PREFIX, "english", collected)
    reason = steps.decide(index, PREFIX, collected, embedded, evaluated, minimum)
    version = steps.swap(index, PREFIX, "english", collected, embedded, evaluated, reason)
    return version, embedded, artifacts_bucket().get_json(evaluated)["new"]


def ask(question: str) -> str:
    """The text of the first chunk of the live index."""
    [vector] = embedding.embed([question])
    return PgvectorStore("docs", "english").search_vectors(None, vector, 1)[0].text


def page(artifacts: Bucket) -> str:
    return artifacts.get(steps.page_key("docs")).decode()


@pytest.fixture
def documents(data: Bucket) -> Bucket:
    data.put(f"{PREFIX}home.md", HOME.encode())
    data.put(f"{PREFIX}garden.txt", b"Tomatoes need water every evening.")
    data.put(f"{PREFIX}questions.yaml", yaml.safe_dump(QUESTIONS).encode())
    return data


def test_documents_of_all_formats_are_indexed_and_shown_on_the_page(documents: Bucket, artifacts: Bucket) -> None:
    documents.put(f"{PREFIX}kitchen.html", b"<h1>Kitchen</h1><p>The oven heats to 250 degrees.</p>")
    documents.put(f"{PREFIX}car.pdf", pdf("The car needs oil of type 5W-30."))
    version, embedded, _ = run()
    assert PgvectorStore("docs", "english").live() == version
    assert embedded == {"embedded": 5, "added": 5, "kept": 0, "deleted": 0}
    assert "250 degrees" in ask("How hot does the oven get?")
    assert "5W-30" in ask("Which oil does the car need?")
    assert "Tomatoes" in ask("How often do I water tomatoes?")
    for shown in (f"Version {version} is live", "kitchen.html", "car.pdf", "Who feeds the cat?"):
        assert shown in page(artifacts)


def test_a_second_run_embeds_nothing(documents: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    version, *_ = run()
    again, embedded, _ = run()
    assert again == version
    assert embedded == {"embedded": 0, "added": 0, "kept": 3, "deleted": 0}


def test_one_changed_section_is_embedded_and_a_deleted_file_vanishes(documents: Bucket) -> None:
    old, *_ = run()
    documents.put(f"{PREFIX}home.md", HOME.replace("Tuesday", "Tuesday and Friday").encode())
    documents.delete(f"{PREFIX}garden.txt")
    new, embedded, _ = run()
    assert new != old
    assert embedded == {"embedded": 1, "added": 1, "kept": 1, "deleted": 2}
    assert "Friday" in ask("When is the rubbish collected?")
    assert not any("Tomatoes" in hit.text for hit in PgvectorStore("docs", "english").search_text(None, "tomatoes", 9))


def test_the_same_text_in_two_files_is_embedded_once(documents: Bucket) -> None:
    documents.put(f"{PREFIX}copies/home.md", HOME.encode())
    _, embedded, _ = run()
    assert embedded["embedded"] == 3
    assert embedded["added"] == 5


def test_unreadable_files_go_to_quarantine_with_a_reason_until_they_are_corrected(
    documents: Bucket, artifacts: Bucket
) -> None:
    documents.put(f"{PREFIX}broken.pdf", b"%PDF-1.7 broken")
    documents.put(f"{PREFIX}latin.txt", "Gemüse".encode("latin-1"))
    documents.put(f"{PREFIX}empty.md", b"\n")
    run()
    for name, reason in [("broken.pdf", "not a readable PDF"), ("latin.txt", "not UTF-8"), ("empty.md", "no text")]:
        assert not documents.exists(PREFIX + name)
        assert reason in documents.metadata(steps.QUARANTINE + PREFIX + name)["reason"]
        assert name in page(artifacts)
    documents.put(f"{PREFIX}latin.txt", "Gemüse".encode())
    run()
    assert "not UTF-8" not in page(artifacts)
    assert "not a readable PDF" in page(artifacts)


def test_a_failed_gate_leaves_the_old_index_answering_throughout_the_run(documents: Bucket, artifacts: Bucket) -> None:
    old, *_ = run()
    documents.put(f"{PREFIX}home.md", HOME.replace("Ada feeds", "No one feeds").encode())
    with answers("Who feeds the cat?") as heard, pytest.raises(PermanentError, match=rf"0\.5000 is below.*{old} keeps"):
        run()
    assert len(heard) > 3
    assert set(heard) == {"Ada feeds the cat in the morning."}
    assert PgvectorStore("docs", "english").live() == old
    assert "is not live" in page(artifacts)


def test_who_searches_during_a_run_finds_the_old_or_the_new_version(documents: Bucket) -> None:
    questions = [{**QUESTIONS[1], "contains": "collected on"}]
    documents.put(f"{PREFIX}questions.yaml", yaml.safe_dump(questions).encode())
    run()
    days = ["Tuesday"]
    with answers("When is the rubbish collected?") as heard:
        for day in ("Wednesday", "Thursday", "Friday"):
            days.append(day)
            documents.put(f"{PREFIX}home.md", HOME.replace("Tuesday", day).encode())
            run()
        time.sleep(0.2)
    assert list(dict.fromkeys(heard)) == [f"The rubbish is collected on {day}." for day in days]


@contextmanager
def answers(question: str) -> Iterator[list[str]]:
    """Ask a question again and again in the background."""
    [vector] = embedding.embed([question])
    heard: list[str] = []
    stop = Event()

    def ask_on() -> None:
        while not stop.is_set():
            try:
                heard.extend(hit.text for hit in PgvectorStore("docs", "english").search_vectors(None, vector, 1))
            except Exception as error:  # noqa: BLE001 - seen by the test
                heard.append(repr(error))
            time.sleep(0.02)

    thread = Thread(target=ask_on)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


def test_a_version_that_answers_fewer_questions_than_the_live_one_does_not_go_live(documents: Bucket) -> None:
    old, *_ = run(minimum=0)
    documents.put(f"{PREFIX}home.md", HOME.replace("Ada feeds", "No one feeds").encode())
    with pytest.raises(PermanentError, match=r"0\.5000 is below the 1\.0000 of the live version"):
        run(minimum=0)
    assert PgvectorStore("docs", "english").live() == old


def test_a_killed_embedding_continues_with_the_missing_chunks(
    documents: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BATCH_CHUNKS", 1)
    add = PgvectorStore.add

    def killed(self: PgvectorStore, version: str, *arguments: object) -> None:
        if self.ids(version):
            raise KeyboardInterrupt
        add(self, version, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(PgvectorStore, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    _, embedded, _ = run()
    assert embedded["embedded"] == 2


def test_the_previous_version_is_kept_and_older_ones_are_deleted(
    documents: Bucket, features: psycopg.Connection
) -> None:
    versions = []
    for day in ("Tuesday", "Tuesday and Friday", "Tuesday or Monday"):
        documents.put(f"{PREFIX}home.md", HOME.replace("Tuesday", day).encode())
        versions.append(run()[0])
    tables = features.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'docs_index'").fetchall()
    assert {table for (table,) in tables} == {f"docs_{version}" for version in versions[1:]}


def test_two_indexes_do_not_touch_each_other(documents: Bucket) -> None:
    first, *_ = run()
    documents.put(f"{PREFIX}home.md", HOME.replace("cat", "cat and the dog").encode())
    run(index="pets", minimum=0)
    assert PgvectorStore("docs", "english").live() == first


def test_a_folder_without_documents_changes_nothing(data: Bucket) -> None:
    data.put(f"{PREFIX}picture.png", b"")
    with pytest.raises(PermanentError, match=r"has no documents: put files there whose names end in \.md"):
        run()


def test_a_missing_question_set_is_one_sentence_that_shows_how_to_write_it(documents: Bucket) -> None:
    documents.delete(f"{PREFIX}questions.yaml")
    with pytest.raises(PermanentError, match=r"questions\.yaml is missing, .*: give a list of questions such as"):
        run()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"- 1", "entry 1 needs question, file and contains, or question and answerable: false"),
        (b"[]", "it is not a list"),
        (b"\xff", "unacceptable character"),
        (b"- {question: a?, file: b, contains: c}", "line 1: expected ',' or '}'"),
        (b"- {question: a}", "entry 1 needs question, file and contains, or question and answerable: false"),
        (b"- {question: a, file: b, contains: 1}", "a value of entry 1 is not text"),
        (b"- {question: a, file: b, contains: ' '}", "a value of entry 1 is not text"),
        (b"- {question: a, answerable: true}", "answerable of entry 1 is not false"),
    ],
)
def test_a_file_that_is_no_question_set_is_refused_before_anything_is_embedded(
    documents: Bucket, content: bytes, reason: str
) -> None:
    documents.put(f"{PREFIX}old/questions.yaml", content)
    with pytest.raises(PermanentError, match=re.escape(f"old/questions.yaml is not a question set ({reason}")):
        steps.fetch(PREFIX, None, None, "", [])


def test_the_questions_of_all_folders_are_asked(documents: Bucket) -> None:
    documents.put(f"{PREFIX}cellar/wine.md", b"# Wine\n\nThe wine is red.")
    question = {"question": "Which colour is the wine?", "file": "wine.md", "contains": "red"}
    documents.put(f"{PREFIX}cellar/questions.yaml", yaml.safe_dump([question]).encode())
    _, _, evaluated = run(minimum=1)
    assert [one["file"] for one in evaluated["questions"]] == ["cellar/wine.md", "home.md", "home.md"]
    assert evaluated["questions"][0]["passage"] == {
        "path": "cellar/wine.md",
        "heading": "Wine",
        "text": "The wine is red.",
    }


def test_the_page_shows_a_question_about_a_document_that_is_not_there(documents: Bucket, artifacts: Bucket) -> None:
    documents.put(f"{PREFIX}questions.yaml", yaml.safe_dump([{**QUESTIONS[0], "file": "house.md"}]).encode())
    run(minimum=0)
    assert "is not among the documents" in page(artifacts)


def test_an_unknown_language_is_refused_with_the_known_ones(documents: Bucket) -> None:
    with pytest.raises(PermanentError, match="no text search configuration klingon: set language to one of arabic"):
        PgvectorStore("docs", "klingon").create("1")


def test_a_database_without_pgvector_is_one_sentence(
    features: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(connection: object) -> None:
        raise psycopg.ProgrammingError("vector type not found in the database")

    monkeypatch.setattr(pgvector_search, "register_vector", missing)
    with pytest.raises(PermanentError, match="has no pgvector: run `CREATE EXTENSION vector`"):
        PgvectorStore("docs", "english").live()


def test_a_question_of_unknown_words_finds_nothing_by_words(documents: Bucket) -> None:
    run()
    for question in ("xylophone", "the", "!?'"):
        assert PgvectorStore("docs", "english").search_text(None, question, 4) == []


def measured_of(evaluated: Evaluation) -> dict[str, float]:
    print({name: (round(one["hit_rate"], 3), round(one["mrr"], 3)) for name, one in evaluated["measured"].items()})
    return {name: one["hit_rate"] for name, one in evaluated["measured"].items()}


def missed(evaluated: Evaluation) -> list[object]:
    return [one for one in evaluated["questions"] if (one["ranks"][HYBRID] or 5) > 4]


def test_the_documentation_of_this_repository_answers_its_questions(data: Bucket) -> None:
    for file in [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]:
        data.put(f"{PREFIX}{file.relative_to(REPOSITORY)}", file.read_bytes())
    data.put(f"{PREFIX}docs/questions.yaml", (REPOSITORY / "docs" / "questions.yaml").read_bytes())
    _, embedded, evaluated = run(minimum=0)
    print(embedded)
    measured = measured_of(evaluated)
    assert len(evaluated["questions"]) == 15
    assert measured[HYBRID] >= max(0.8, measured[VECTOR], measured[TEXT]), missed(evaluated)


def test_the_topics_of_python_answer_their_questions(data: Bucket) -> None:
    content = PYTHON_QUESTIONS.read_bytes()
    for file in {entry["file"] for entry in yaml.safe_load(content)}:
        data.put(PREFIX + file, topics[file.removesuffix(".txt")].encode())
    data.put(f"{PREFIX}questions.yaml", content)
    _, embedded, evaluated = run(minimum=0)
    print(embedded)
    measured = measured_of(evaluated)
    assert len(evaluated["questions"]) == 30
    assert measured[HYBRID] >= max(0.8, measured[VECTOR], measured[TEXT]), missed(evaluated)


def test_similar_sentences_have_similar_vectors_of_length_1_whatever_else_is_in_their_batch() -> None:
    texts = ["How do I undo a release?", "make rollback reverts to an earlier release.", "Cats sleep all day. " * 40]
    vectors = embedding.embed(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    np.testing.assert_allclose(vectors[0], embedding.embed(texts[:1])[0], atol=1e-5)


def pdf(text: str) -> bytes:
    figure = Figure()
    figure.text(0.1, 0.5, text)
    file = io.BytesIO()
    figure.savefig(file, format="pdf")
    return file.getvalue()
