"""Where indexes are stored: a small interface, and the tables of PostgreSQL with pgvector behind it.

An index has a name, by which it is searched, and versions, which are built next to each other. The name points to one
version, and is moved to another as a whole: who searches finds either the old or the new version.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from psycopg import sql

from docs_index.chunks import Chunk
from docs_index.pgvector_search import SCHEMA, Connection, PgvectorSearch, register
from docs_index.search import Searchable
from ml_common import feature_store, lineage
from ml_common.embedding_model import DIMENSIONS
from ml_common.errors import PermanentError

COLUMNS = ("id", "path", "heading", "position", "text", "hash")


class Store(Searchable, Protocol):
    """An index in all its versions, which are built and searched."""

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

    def swap(self, version: str) -> list[str]:
        """Let the name point to a version, and delete all others but the previous one; return what was deleted."""


class PgvectorStore(PgvectorSearch):
    """An index in the feature store's database, in which tasks log in as its owner."""

    def __init__(self, name: str, language: str) -> None:
        super().__init__(name, language, _connection)

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

    def swap(self, version: str) -> list[str]:
        """Let the name point to a version, and delete all others but the previous one; return what was deleted."""
        with _connection() as connection:
            previous = self._live(connection)
            if previous != version:
                view = sql.Identifier(SCHEMA, self._name)
                connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
                connection.execute(sql.SQL("CREATE VIEW {} AS SELECT * FROM {}").format(view, self._table(version)))
                connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(version)))
                _let_servers_read(connection, view)
            lineage.writes(feature_store.uri(connection, f"{SCHEMA}.{self._name}"))
            if previous in {None, version}:
                return []
            old = [one for one in self._versions(connection) if one not in {previous, version}]
            for one in old:
                connection.execute(sql.SQL("DROP TABLE {}").format(self._table(one)))
            return old

    def _versions(self, connection: Connection) -> Iterator[str]:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [SCHEMA]).fetchall()
        for (table,) in rows:
            name, _, version = table.rpartition("_")
            if name == self._name:
                yield version


@contextmanager
def _connection() -> Iterator[Connection]:
    with feature_store.transaction() as connection:
        register(connection)
        yield connection


def _let_servers_read(connection: Connection, view: sql.Identifier) -> None:
    """Give the user of model servers access to the view, where there is such a user."""
    user = feature_store.server_user(connection)
    if user:
        servers = sql.Identifier(user)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), servers))
        connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(view, servers))


def _languages(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT cfgname FROM pg_ts_config ORDER BY cfgname")]
