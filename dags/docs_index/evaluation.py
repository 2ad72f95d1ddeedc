"""How well an index answers its question set: three ways of searching, measured by hit@4 and MRR."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from docs_index.questions import Question
from docs_index.search import HITS, HYBRID, METHODS, Hit, Searchable, search


class Measured(TypedDict):
    """The share of questions with an answer among the first HITS chunks, and the mean reciprocal rank of the first."""

    hit_rate: float
    mrr: float


class Passage(TypedDict):
    """The first chunk that hybrid search finds."""

    path: str
    heading: str
    text: str


class Answered(TypedDict):
    """A question, what was found, and the rank of its first answer by each way of searching, or None."""

    question: str
    file: str
    passage: Passage | None
    ranks: dict[str, int | None]


class Evaluation(TypedDict):
    """What was measured of a version."""

    version: str
    measured: dict[str, Measured]
    questions: list[Answered]


def evaluate(store: Searchable, version: str, questions: Sequence[Question], vectors: Any) -> Evaluation:
    """Ask a version all questions; `vectors` are their embeddings."""
    answered = [
        answer(question, search(store, version, question.question, vector))
        for question, vector in zip(questions, vectors, strict=True)
    ]
    measured = {method: measure(one["ranks"][method] for one in answered) for method in METHODS}
    return Evaluation(version=version, measured=measured, questions=answered)


def answer(question: Question, found: Mapping[str, Sequence[Hit]]) -> Answered:
    """Return which of the chunks that were found by each way of searching answers a question."""
    first = next(iter(found[HYBRID]), None)
    return Answered(
        question=question.question,
        file=question.file or "",
        passage=Passage(path=first.path, heading=first.heading, text=first.text) if first else None,
        ranks={method: rank(question, hits) for method, hits in found.items()},
    )


def rank(question: Question, hits: Iterable[Hit]) -> int | None:
    """Return the place of the first chunk that answers the question, from 1."""
    return next((place for place, hit in enumerate(hits, 1) if question.answered_by(hit.path, hit.text)), None)


def measure(ranks: Iterable[int | None]) -> Measured:
    """Return hit@4 and the mean reciprocal rank; a question without an answer counts as 0."""
    found = list(ranks)
    return Measured(
        hit_rate=sum(place is not None and place <= HITS for place in found) / len(found),
        mrr=sum(1 / place for place in found if place is not None) / len(found),
    )


def describe(evaluated: Evaluation) -> str:
    """Return the metrics of all ways of searching for the log."""
    metrics = (
        f"{name} hit@{HITS} {one['hit_rate']:.2f} MRR {one['mrr']:.2f}" for name, one in evaluated["measured"].items()
    )
    return f"Version {evaluated['version']}: {', '.join(metrics)}."
