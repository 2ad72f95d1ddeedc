"""The feature store: tables in PostgreSQL with one partition per day, and the same partitions as Parquet files.

The Airflow connection `features` has the address of the database. A partition is replaced as a whole: its rows are
deleted and inserted in one transaction, so a reader sees either the old or the new partition.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from hashlib import sha256
from typing import Any

import psycopg
import pyarrow
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.exceptions import AirflowNotFoundException
from psycopg import sql
from pyarrow import csv, parquet

from ml_common import lineage
from ml_common.errors import PermanentError, ServiceUnavailableError

CONNECTION = "features"
# As in infra/feature_store.py: the user of model servers has the name of the owner and this suffix.
SERVER_SUFFIX = "-serving"
# The schema of tables whose names have none.
SCHEMA = "public"


@contextmanager
def transaction() -> Iterator[psycopg.Connection[Any]]:
    """Connect, and commit at the end of the block, or roll back if it fails.

    Raises:
        PermanentError: The connection `features` is not defined.
        ServiceUnavailableError: The database does not answer, or ended the session.
    """
    try:
        connection: Any = PostgresHook(postgres_conn_id=CONNECTION).get_conn()
        with connection:
            yield connection
    except AirflowNotFoundException as error:
        raise PermanentError(
            f"The Airflow connection `{CONNECTION}` is not defined: set AIRFLOW_CONN_{CONNECTION.upper()} to the "
            "address of the feature store's database."
        ) from error
    except psycopg.OperationalError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ServiceUnavailableError(
            f"The feature store's database does not answer; check that it is running and reachable ({reason})."
        ) from error


def server_user(connection: psycopg.Connection[Any]) -> str | None:
    """Return the user of model servers, who reads what the owner of a view lets it read; None if there is none."""
    row = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = current_user || %s", [SERVER_SUFFIX]
    ).fetchone()
    return row[0] if row else None


def replace_partitions(
    connection: psycopg.Connection[Any],
    table: str,
    source: tuple[str, str],
    columns: Sequence[str],
    days: Sequence[date],
) -> None:
    """Replace the partitions of these days with all rows of the table `source`, given as schema and name.

    Writers wait for each other until their transactions end; readers do not wait.
    """
    names = {
        "table": sql.Identifier(table),
        "source": sql.Identifier(*source),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
    }
    connection.execute(sql.SQL("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE").format(**names))
    connection.execute(sql.SQL("DELETE FROM {table} WHERE day = ANY(%s)").format(**names), [list(days)])
    connection.execute(sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}").format(**names))
    lineage.writes(uri(connection, table))


def uri(connection: psycopg.Connection[Any], table: str) -> str:
    """Return the address of a table for lineage."""
    at = connection.info
    return f"postgres://{at.host}:{at.port}/{at.dbname}/{SCHEMA}/{table}"


def partition_csv(
    connection: psycopg.Connection[Any], table: Sequence[str], columns: Sequence[str], key: Sequence[str], day: date
) -> bytes:
    """Return a partition as CSV, with its rows in the order of the columns `key`: equal rows give equal bytes."""
    return partitions_csv(connection, table, columns, key, day, day)


def partitions_csv(
    connection: psycopg.Connection[Any],
    table: Sequence[str],
    columns: Sequence[str],
    key: Sequence[str],
    first: date,
    last: date,
) -> bytes:
    """Return the partitions from `first` to `last` as CSV, with their rows in the order of the columns `key`."""
    query = sql.SQL(
        "COPY (SELECT {columns} FROM {table} WHERE day BETWEEN {first} AND {last} ORDER BY {key}) "
        "TO STDOUT (FORMAT csv, HEADER)"
    ).format(
        table=sql.Identifier(*table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        key=sql.SQL(", ").join(map(sql.Identifier, key)),
        first=sql.Literal(first),
        last=sql.Literal(last),
    )
    if len(table) == 1:  # a published one, not the table of a run
        lineage.reads(uri(connection, table[0]))
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        return b"".join(bytes(block) for block in copy)


def checksum(partition: bytes) -> str:
    """Return the SHA-256 of a partition's CSV."""
    return sha256(partition).hexdigest()


def to_table(partition: bytes, types: dict[str, pyarrow.DataType]) -> pyarrow.Table:
    """Read a partition's CSV with a type for each column."""
    options = csv.ConvertOptions(column_types=types, null_values=[""], true_values=["t"], false_values=["f"])
    options.strings_can_be_null = True
    return csv.read_csv(io.BytesIO(partition), convert_options=options)


def to_parquet(partition: bytes, types: dict[str, pyarrow.DataType]) -> bytes:
    """Convert a partition's CSV to Parquet with a type for each column."""
    file = io.BytesIO()
    parquet.write_table(to_table(partition, types), file)
    return file.getvalue()
