"""Wait until the metadata database has the schema of this image. Runs as an init container.

`airflow db check-migrations` does the same with ten times the CPU: all components start it at the same moment, and on a
small node they starve the migration that they wait for.
"""

import sys
import time
from pathlib import Path

import psycopg2
import psycopg2.errors

# Written by revisions.py when the image is built.
REVISIONS = Path(__file__).with_name("revisions.txt")
# As in infra/airflow/values.py.
CONNECTION = Path("/opt/airflow/secrets/connection")
TIMEOUT_SECONDS = 600
POLL_SECONDS = 1


def main() -> None:
    """Wait until the database is migrated; exit with an error after ten minutes."""
    wanted = dict(line.split() for line in REVISIONS.read_text().splitlines())
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while problem := missing(wanted):
        if time.monotonic() > deadline:
            sys.exit(f"error: {problem}: see the log of the Job that migrates it")
        time.sleep(POLL_SECONDS)


def missing(wanted: dict[str, str]) -> str | None:
    """Explain why the database does not have the wanted revision in each table, or return None if it does."""
    try:
        connection = psycopg2.connect(CONNECTION.read_text(), connect_timeout=5)
    except psycopg2.OperationalError as error:
        reason = str(error).partition("\n")[0]
        return f"the metadata database does not answer ({reason})"
    try:
        found = {table: revision(connection, table) for table in wanted}
    except psycopg2.errors.InsufficientPrivilege:
        return "this user of the metadata database has no rights yet"
    finally:
        connection.close()
    behind = [f"{table} is {found[table]}, not {wanted[table]}" for table in wanted if found[table] != wanted[table]]
    return f"the metadata database is not migrated ({', '.join(behind)})" if behind else None


def revision(connection: psycopg2.extensions.connection, table: str) -> str | None:
    """Return the revision in a table, or None if the table is missing or empty."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", (table,))
        if cursor.fetchone() == (None,):
            return None
        cursor.execute(f"SELECT version_num FROM {table}")  # noqa: S608 - a name from this image
        row = cursor.fetchone()
        return str(row[0]) if row else None


if __name__ == "__main__":
    main()
