"""Find passages in the live version of an index, as a user of the database who may only read it."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from docs_index.pgvector_search import PgvectorSearch, register
from docs_index.search import HITS, HYBRID, Hit, search
from ml_common.errors import ServiceUnavailableError

log = logging.getLogger(__name__)

# A search takes milliseconds. Two replicas have the limit of the user, SERVER_CONNECTIONS in infra/feature_store.py.
CONNECTIONS = 2
WAIT_SECONDS = 5.0
UNAVAILABLE = "The index does not answer; ask again in a minute."


@dataclass(frozen=True)
class Found:
    """The passages of a question, the best first, and the version of the index that they are from."""

    version: str
    hits: Sequence[Hit]


class LiveIndex:
    """The live version of an index."""

    def __init__(self, name: str, language: str, address: str) -> None:
        """Connect to the database when the first question comes.

        Args:
            name: The name of the index.
            language: Its text search configuration.
            address: The connection string of the database.
        """
        self._name = name
        self._language = language
        self._pool = ConnectionPool(
            address, min_size=0, max_size=CONNECTIONS, timeout=WAIT_SECONDS, configure=_configure, open=True
        )

    def find(self, question: str, vector: Any) -> Found:
        """Find the passages of a question.

        Raises:
            ServiceUnavailableError: The database does not answer, or has no such index.
        """
        try:
            with self._pool.connection() as connection:
                index = PgvectorSearch(self._name, self._language, lambda: nullcontext(connection))
                hits = search(index, None, question, vector)[HYBRID][:HITS]
                # A transaction that has read the view keeps it from being replaced until it ends.
                return Found(index.live() or "", hits)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("The database failed: %s", error)
            raise ServiceUnavailableError(UNAVAILABLE) from error


def _configure(connection: psycopg.Connection[Any]) -> None:
    register(connection)
    connection.commit()
