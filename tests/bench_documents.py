"""Measure an index of documents in PostgreSQL with pgvector: `make bench-documents`. Prints results without asserts.

Embedding 100,000 chunks takes hours, so each vector here is a mixture of those of three chunks of this repository's
documentation, and each text has the words of two. The questions are those of its question set.
"""

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from infra.documents import REPOSITORY
from tests import bench_home

CHUNKS = 100_000
BATCH = 1_000
LIMIT = 20
ROUNDS = 5
NAME, VERSION = "bench", "1"
SEARCH = f"SELECT id FROM docs_index.{NAME} ORDER BY embedding <=> %s LIMIT {LIMIT}"


def main() -> None:
    """Print the seconds of the construction, and the milliseconds and the recall of searches."""
    with bench_home.running():
        logging.disable(logging.WARNING)
        bench_home.print_machine()
        measure()


def measure() -> None:
    """Build an index and search it."""
    from docs_index import questions
    from docs_index.pgvector_search import EF_SEARCH
    from docs_index.store import PgvectorStore
    from ml_common import embedding

    store = PgvectorStore(NAME, "english")
    file = REPOSITORY / "docs" / "questions.yaml"
    asked = [one.question for one in questions.parse(file.read_bytes(), file.name, "docs/")]
    with timed("embed the documentation and the questions"):
        texts = documentation()
        vectors, of_questions = embedding.embed(texts), embedding.embed(asked)
    store.create(VERSION)
    with timed(f"add {CHUNKS:,} chunks"):
        for chunks, mixed in batches(texts, vectors):
            store.add(VERSION, chunks, mixed)
    with timed("build the indexes of vectors (HNSW) and words (GIN)"):
        store.finish(VERSION)
    store.swap(VERSION)
    with psycopg.connect(os.environ["AIRFLOW_CONN_FEATURES"], autocommit=True) as connection:
        register_vector(connection)
        connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}".encode())
        print_sizes(connection)
        compare(connection, of_questions)
    report(
        "full text, with a connection for each search",
        [
            milliseconds(partial(store.search_text, None, question, LIMIT))[0]
            for _ in range(ROUNDS)
            for question in asked
        ],
    )


def documentation() -> list[str]:
    """Return the texts of the chunks of this repository's documentation."""
    from docs_index import chunks, formats
    from ml_common import embedding_model

    found = []
    for path in sorted(REPOSITORY.glob("docs/**/*.md")):
        sections = formats.read(path.name, path.read_bytes())
        found += [
            one.embedded
            for one in chunks.chunks(path.name, sections, embedding_model.NAME, embedding_model.count_tokens)
        ]
    return found


def batches(texts: Sequence[str], vectors: Any) -> Iterator[tuple[list[Any], Any]]:
    """Yield chunks with mixed texts and vectors."""
    from docs_index.chunks import Chunk

    random = np.random.default_rng(0)
    for begin in range(0, CHUNKS, BATCH):
        chosen = random.integers(len(texts), size=(BATCH, 3))
        mixed = np.einsum("ij,ijk->ik", random.dirichlet([1, 1, 1], BATCH), vectors[chosen]).astype(np.float32)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        names = [str(begin + number) for number in range(BATCH)]
        yield (
            [
                Chunk(name, f"{name}.md", "", 0, half(texts[first]) + half(texts[second]), name)
                for name, (first, second, _) in zip(names, chosen, strict=True)
            ],
            mixed,
        )


def half(text: str) -> str:
    return text[: len(text) // 2]


def compare(connection: psycopg.Connection[Any], vectors: Iterable[Any]) -> None:
    """Search with the index and exactly, in turn."""
    times: dict[str, list[float]] = {"exact": [], "HNSW": []}
    shares = []
    for _ in range(ROUNDS):
        for vector in vectors:
            found = {}
            for name, is_used in (("exact", "off"), ("HNSW", "on")):
                connection.execute(f"SET enable_indexscan = {is_used}".encode())
                spent, rows = milliseconds(partial(search, connection, vector))
                times[name].append(spent)
                found[name] = set(rows)
            shares.append(len(found["exact"] & found["HNSW"]) / LIMIT)
    for name, all_spent in times.items():
        report(f"vectors, {name}", all_spent)
    print(f"recall@{LIMIT} of HNSW: {statistics.mean(shares):.3f}")


def search(connection: psycopg.Connection[Any], vector: Any) -> list[Any]:
    return connection.execute(SEARCH, [vector]).fetchall()


def print_sizes(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = 'docs_index'::regnamespace"
        " AND pg_relation_size(oid) > 0 ORDER BY relname"
    )
    print("sizes: " + ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in rows), flush=True)


@contextmanager
def timed(title: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{title}: {time.monotonic() - began:.1f} s", flush=True)


def milliseconds(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    result = function()
    return (time.monotonic() - began) * 1000, result


def report(title: str, spent: Sequence[float]) -> None:
    worst = statistics.quantiles(spent, n=20)[-1]
    print(f"{title}: median {statistics.median(spent):.1f} ms, 95th percentile {worst:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
