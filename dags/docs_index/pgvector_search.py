"""Search an index in PostgreSQL with pgvector. Imports nothing of Airflow, because model servers search as well."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import class_row

from docs_index.search import Hit
from ml_common.errors import PermanentError

SCHEMA = "docs_index"
# How many candidates a search keeps: of the 20 nearest of 100,000 chunks, it finds 95 %, with pgvector's default of 40
# it finds 86 %. https://github.com/pgvector/pgvector#query-options
EF_SEARCH = 200

Connection = psycopg.Connection[Any]


class PgvectorSearch:
    """An index in a database: a table for each version, and a view with the name of the index for the live one."""

    def __init__(self, name: str, language: str, transaction: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Keep the name of the index, its text search configuration, and how to begin a transaction with vectors."""
        self._name = name
        self._language = language
        self._transaction = transaction

    def live(self) -> str | None:
        """Return the version that the name points to."""
        with self._transaction() as connection:
            return self._live(connection)

    def search_vectors(self, version: str | None, vector: Any, limit: int) -> list[Hit]:
        """Return the chunks whose vectors are nearest by cosine similarity, the nearest first."""
        query = sql.SQL("SELECT id, path, heading, text FROM {} ORDER BY embedding <=> %s LIMIT %s")
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            return _hits(connection, query, [question, limit])

    def _live(self, connection: Connection) -> str | None:
        row = connection.execute(
            "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)",
            [f"{SCHEMA}.{self._name}"],
        ).fetchone()
        return row[0] if row else None

    def _table(self, version: str | None) -> sql.Identifier:
        return sql.Identifier(SCHEMA, self._name if version is None else f"{self._name}_{version}")


def register(connection: Connection) -> None:
    """Let a connection read and write vectors.

    Raises:
        PermanentError: The database has no pgvector.
    """
    try:
        register_vector(connection)
    except psycopg.ProgrammingError as error:
        raise PermanentError(
            "The feature store's database has no pgvector: run `CREATE EXTENSION vector` in it as its "
            "administrator, or use a server that has this extension."
        ) from error


def _hits(connection: Connection, query: sql.Composed, values: Sequence[Any]) -> list[Hit]:
    with connection.cursor(row_factory=class_row(Hit)) as cursor:
        return cursor.execute(query, values).fetchall()
