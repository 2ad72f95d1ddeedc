"""Search an index by meaning, by words, and by both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# How many chunks of each way are merged.
CANDIDATES = 20
# The number of chunks that an answer is made of.
HITS = 4
# Reciprocal rank fusion, Cormack et al. 2009: https://dl.acm.org/doi/10.1145/1571941.1572114
RRF_CONSTANT = 60

VECTOR, TEXT, HYBRID = METHODS = ("vector", "full text", "hybrid")


@dataclass(frozen=True)
class Hit:
    """A chunk that was found."""

    id: str
    path: str
    heading: str
    text: str


class Searchable(Protocol):
    """An index in all its versions; `version` is the content of an index, and None the one its name points to."""

    def live(self) -> str | None:
        """Return the version that the name points to."""

    def search_vectors(self, version: str | None, vector: Any, limit: int) -> list[Hit]:
        """Return the chunks whose vectors are nearest by cosine similarity, the nearest first."""

    def search_text(self, version: str | None, question: str, limit: int) -> list[Hit]:
        """Return the chunks with words of the question, the best first."""


def search(store: Searchable, version: str | None, question: str, vector: Any) -> dict[str, Sequence[Hit]]:
    """Return the chunks that each way of searching finds, the best first.

    Args:
        store: The index.
        version: The version of the index; None for the live one.
        question: The question.
        vector: Its embedding.
    """
    by_vector = store.search_vectors(version, vector, CANDIDATES)
    by_text = store.search_text(version, question, CANDIDATES)
    return {VECTOR: by_vector, TEXT: by_text, HYBRID: fuse(by_vector, by_text)}


def fuse(*rankings: Sequence[Hit]) -> list[Hit]:
    """Merge rankings by reciprocal rank fusion."""
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for ranking in rankings:
        for place, hit in enumerate(ranking, 1):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (RRF_CONSTANT + place)
            hits[hit.id] = hit
    return sorted(hits.values(), key=lambda hit: -scores[hit.id])
