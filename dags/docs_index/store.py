"""Where indexes are stored: a small interface, and the tables of PostgreSQL with pgvector behind it.

An index has a name, by which it is searched, and versions, which are built next to each other. The name points to one
version, and is moved to another as a whole: who searches finds either the old or the new version.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import class_row

from docs_index.chunks import Chunk
from ml_common import feature_store, lineage
from ml_common.embedding_model import DIMENSIONS
from ml_common.errors import PermanentError

SCHEMA = "docs_index"
# How many candidates a search keeps: of the 20 nearest of 100,000 chunks, it finds 95 %, with pgvector's default of 40
# it finds 86 %. https://github.com/pgvector/pgvector#query-options
EF_SEARCH = 200
COLUMNS = ("id", "path", "heading", "position", "text", "hash")


@dataclass(frozen=True)
class Hit:
    """A chunk that was found."""

    id: str
    path: str
    heading: str
    text: str


class Store(Protocol):
    """An index in all its versions; `version` is the content of an index, and None the one its name points to."""

    def live(self) -> str | None:
        """Return the version that the name points to."""

    def create(self, version: str) -> None:
        """Begin a version; one that exists is continued."""

    def ids(self, version: str) -> set[str]:
        """Return the IDs of a version's chunks."""

    def vectors(self, version: str, hashes: Collection[str]) -> Mapping[str, Any]:
        """Return the vectors that a version has, by their hashes."""

    def add(self, version: str, chunks: Sequence[Chunk], vectors: Sequence[Any]) -> None:
        """Add chunks to a version; chunks that it has already are kept."""

    def finish(self, version: str) -> None:
        """Make a version with all its chunks fast to search."""

    def search_vectors(self, version: str | None, vector: Any, limit: int) -> list[Hit]:
        """Return the chunks whose vectors are nearest by cosine similarity, the nearest first."""

    def search_text(self, version: str | None, question: str, limit: int) -> list[Hit]:
        """Return the chunks with words of the question, the best first."""

    def swap(self, version: str) -> list[str]:
        """Let the name point to a version, and delete all others but the previous one; return what was deleted."""


class PgvectorStore:
    """An index in the feature store's database: a table for each version, and a view with the name of the index."""

    def __init__(self, name: str, language: str) -> None:
        self._name = name
        self._language = language

    def live(self) -> str | None:
        """Return the version that the name points to."""
        with _connection() as connection:
            return self._live(connection)

    def create(self, version: str) -> None:
        """Begin a version; one that exists is continued."""
        with _connection() as connection:
            if self._language not in _languages(connection):
                raise PermanentError(
                    f"PostgreSQL has no text search configuration {self._language}: set language to one of "
                    f"{', '.join(_languages(connection))}."
                )
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
            connection.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY, path text NOT NULL, heading text NOT"
                    " NULL, position integer NOT NULL, text text NOT NULL, hash text NOT NULL,"
                    " embedding vector({dimensions}) NOT NULL, words tsvector GENERATED ALWAYS AS"
                    " (setweight(to_tsvector({language}, heading), 'A') || to_tsvector({language}, text)) STORED)"
                ).format(
                    table=self._table(version), dimensions=sql.Literal(DIMENSIONS), language=sql.Literal(self._language)
                )
            )
            connection.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} (hash)").format(
                    sql.Identifier(f"{self._name}_{version}_hash"), self._table(version)
                )
            )

    def ids(self, version: str) -> set[str]:
        """Return the IDs of a version's chunks."""
        with _connection() as connection:
            rows = connection.execute(sql.SQL("SELECT id FROM {}").format(self._table(version)))
            return {chunk_id for (chunk_id,) in rows}

    def vectors(self, version: str, hashes: Collection[str]) -> Mapping[str, Any]:
        """Return the vectors that a version has, by their hashes."""
        query = sql.SQL("SELECT DISTINCT ON (hash) hash, embedding FROM {} WHERE hash = ANY(%s)")
        with _connection() as connection:
            return dict(connection.execute(query.format(self._table(version)), [list(hashes)]).fetchall())

    def add(self, version: str, chunks: Sequence[Chunk], vectors: Sequence[Any]) -> None:
        """Add chunks to a version; chunks that it has already are kept."""
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        query = sql.SQL(
            "INSERT INTO {} ({}, embedding) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING"
        ).format(self._table(version), columns)
        rows = [
            (*(getattr(chunk, column) for column in COLUMNS), vector)
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        with _connection() as connection, connection.cursor() as cursor:
            cursor.executemany(query, rows)

    def finish(self, version: str) -> None:
        """Build the indexes for vectors (HNSW) and words (GIN)."""
        table = self._table(version)
        with _connection() as connection:
            connection.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (embedding vector_cosine_ops)").format(
                    sql.Identifier(f"{self._name}_{version}_embedding"), table
                )
            )
            connection.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING gin (words)").format(
                    sql.Identifier(f"{self._name}_{version}_words"), table
                )
            )
            connection.execute(sql.SQL("ANALYZE {}").format(table))

    def search_vectors(self, version: str | None, vector: Any, limit: int) -> list[Hit]:
        """Return the chunks whose vectors are nearest by cosine similarity, the nearest first."""
        query = sql.SQL("SELECT id, path, heading, text FROM {} ORDER BY embedding <=> %s LIMIT %s")
        with _connection() as connection:
            connection.execute(sql.SQL("SET LOCAL hnsw.ef_search = {}").format(EF_SEARCH))
            return _hits(connection, query.format(self._table(version)), [vector, limit])

    def search_text(self, version: str | None, question: str, limit: int) -> list[Hit]:
        """Return the chunks with words of the question, the best first."""
        # One word of the question is enough, because few texts have all of them.
        query = sql.SQL(
            "WITH asked AS (SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS words"
            " FROM unnest(to_tsvector({language}, %s)))"
            " SELECT id, path, heading, text FROM {table} AS chunk, asked WHERE chunk.words @@ asked.words"
            " ORDER BY ts_rank_cd(chunk.words, asked.words, 1) DESC, id LIMIT %s"
        ).format(language=sql.Literal(self._language), table=self._table(version))
        with _connection() as connection:
            return _hits(connection, query, [question, limit])

    def swap(self, version: str) -> list[str]:
        """Let the name point to a version, and delete all others but the previous one; return what was deleted."""
        with _connection() as connection:
            previous = self._live(connection)
            if previous != version:
                view = sql.Identifier(SCHEMA, self._name)
                connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
                connection.execute(sql.SQL("CREATE VIEW {} AS SELECT * FROM {}").format(view, self._table(version)))
                connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(version)))
            lineage.writes(feature_store.uri(connection, f"{SCHEMA}.{self._name}"))
            if previous in {None, version}:
                return []
            old = [one for one in self._versions(connection) if one not in {previous, version}]
            for one in old:
                connection.execute(sql.SQL("DROP TABLE {}").format(self._table(one)))
            return old

    def _live(self, connection: psycopg.Connection[Any]) -> str | None:
        row = connection.execute(
            "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)",
            [f"{SCHEMA}.{self._name}"],
        ).fetchone()
        return row[0] if row else None

    def _versions(self, connection: psycopg.Connection[Any]) -> Iterator[str]:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [SCHEMA]).fetchall()
        for (table,) in rows:
            name, _, version = table.rpartition("_")
            if name == self._name:
                yield version

    def _table(self, version: str | None) -> sql.Identifier:
        return sql.Identifier(SCHEMA, self._name if version is None else f"{self._name}_{version}")


@contextmanager
def _connection() -> Iterator[psycopg.Connection[Any]]:
    with feature_store.transaction() as connection:
        try:
            register_vector(connection)
        except psycopg.ProgrammingError as error:
            raise PermanentError(
                "The feature store's database has no pgvector: run `CREATE EXTENSION vector` in it as its "
                "administrator, or use a server that has this extension."
            ) from error
        yield connection


def _languages(connection: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in connection.execute("SELECT cfgname FROM pg_ts_config ORDER BY cfgname")]


def _hits(connection: psycopg.Connection[Any], query: sql.Composed, values: Sequence[Any]) -> list[Hit]:
    with connection.cursor(row_factory=class_row(Hit)) as cursor:
        return cursor.execute(query, values).fetchall()
