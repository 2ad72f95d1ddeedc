"""The steps as plain functions. They pass each other the name of the run's staging schema; the data stays in it."""

import logging
from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

import psycopg
import pyarrow
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from flight_features import page, raw_files, source
from flight_features.columns import COLUMNS, FEATURES, KEY, TARGET
from flight_features.rules import CHECKS, ORIGINS
from ml_common import checks, feature_store, lineage, metrics, pages, soda, sql_templates
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket, data_bucket
from ml_common.parallel import parallel_map

log = logging.getLogger(__name__)

TABLE = "flight_features"
SQL = Path(__file__).with_name("sql")
CONTRACT = Path(__file__).with_name("contract.yaml")
PARTITIONS = "flight_features/partitions/"
PAGE = "flight_features/partitions.html"
# Regular expressions of PostgreSQL. NaN and Infinity are numbers for PostgreSQL, but not for a model.
INTEGER = "^-?[0-9]{1,9}$"
NUMBER = "^-?[0-9]{1,15}([.][0-9]+)?(e[+-]?[0-9]{1,2})?$"
PARQUET_TYPES = {
    "day": pyarrow.date32(),
    "flight": pyarrow.int32(),
    "scheduled_departure": pyarrow.timestamp("s"),
    **dict.fromkeys(("carrier", "origin", "destination", "tail_number"), pyarrow.string()),
    **dict.fromkeys(FEATURES, pyarrow.float64()),
    TARGET: pyarrow.bool_(),
}


class Published(TypedDict):
    """What a run published: the first and the last day, and the SHA-256 of the partitions' checksums."""

    first: str
    last: str
    partitions: int
    rows: int
    checksum: str


def create_staging(run_id: str) -> str:
    """Create the published tables if they are missing, and the staging schema of the run; return its name."""
    staging = f"staging_{sha256(run_id.encode()).hexdigest()[:16]}"
    with feature_store.transaction() as connection:
        connection.execute(_sql("feature_tables.sql", features=FEATURES, key=KEY))
        connection.execute(_sql("staging_tables.sql", staging=staging, raw=raw_files.COLUMNS, key=KEY))
    return staging


def drop_staging(staging: str) -> None:
    """Drop the staging schema of the run."""
    with feature_store.transaction() as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(staging)))


def land(table: str, days: Sequence[date]) -> int:
    """Copy the missing raw files that the features of these days need from the source to the data bucket.

    Returns:
        How many files were copied. A day that the source does not have gets none.
    """
    bucket = data_bucket()
    wanted = raw_files.needed(table, days)
    missing = wanted.keys() - {entry.key for entry in bucket.list(raw_files.folder(table))}
    if not missing:
        return 0
    files = source.read(table)
    found = {key: files[wanted[key]] for key in sorted(missing) if wanted[key] in files}
    for _ in parallel_map(lambda key: bucket.put(key, found[key]), found):
        pass
    log.info("Copied %d files to %s.", len(found), bucket.uri(raw_files.folder(table)))
    return len(found)


def stage(table: str, staging: str, days: Sequence[date]) -> None:
    """Load the raw files of a table into the staging schema, and set aside the rows that cannot be used.

    Raises:
        PermanentError: A file is not CSV with the expected columns.
    """
    bucket = data_bucket()
    stored = {entry.key for entry in bucket.list(raw_files.folder(table))}
    files = {key: day for key, day in raw_files.needed(table, days).items() if key in stored}
    with feature_store.transaction() as connection:
        for name in (f"raw_{table}", table):
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(staging, name)))
        connection.execute(sql.SQL("DELETE FROM {} WHERE source = %s").format(_rejected(staging)), [table])
        for key, content in parallel_map(lambda key: (key, bucket.get(key)), files):
            _load(connection, sql.Identifier(staging, f"raw_{table}"), table, key, files[key], content)
        query = _sql(f"judge_{table}.sql", staging=staging, integer=INTEGER, number=NUMBER)
        connection.execute(query, {"origins": list(ORIGINS)})


def _load(
    connection: psycopg.Connection[Any], target: sql.Identifier, table: str, key: str, day: date | None, content: bytes
) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, raw_files.COLUMNS[table]))
    # COPY fills a column that the file does not have with its default.
    connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN file_day SET DEFAULT {}").format(target, sql.Literal(day)))
    copy_command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, HEADER MATCH, NULL 'NA')").format(target, columns)
    try:
        with connection.cursor() as cursor, cursor.copy(copy_command) as copy:
            copy.write(content)
    except psycopg.DataError as error:
        raise PermanentError(
            f"{data_bucket().uri(key)} is not a CSV file with the columns of {table} "
            f"({str(error).splitlines()[0]}): correct it, or delete it to copy it from the source again."
        ) from error


def check_raw(staging: str, days: Sequence[date]) -> None:
    """Check the raw data of these days.

    Raises:
        PermanentError: A day halts the run.
    """
    with feature_store.transaction() as connection:
        found = checks.findings(CHECKS, _raw_counts(connection, staging, days))
    _judge(staging, "raw", found)


def build(staging: str, days: Sequence[date]) -> None:
    """Compute the features of these days in the staging schema."""
    query = _sql(
        "build_features.sql",
        staging=staging,
        columns=COLUMNS,
        history_days=raw_files.HISTORY_DAYS,
    )
    with feature_store.transaction() as connection:
        connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(staging, "features")))
        connection.execute(query, {"days": list(days)})


def check_features(staging: str, days: Sequence[date]) -> None:
    """Check the features of these days.

    Raises:
        PermanentError: A day halts the run.
    """
    # Takes seconds, which only this step needs.
    from flight_features import expectations

    with feature_store.transaction() as connection:
        features = feature_store.partitions_csv(connection, (staging, "features"), COLUMNS, KEY, days[0], days[-1])
        counts = _feature_counts(connection, staging, days)
    _judge(staging, "features", expectations.findings(feature_store.to_table(features, PARQUET_TYPES), counts))


def _judge(staging: str, check_name: str, found: Sequence[checks.Finding]) -> None:
    """Keep the warnings for the page; record there which days halt the run, and fail if there are any."""
    warnings = [finding for finding in found if not finding.halts]
    halted = [finding for finding in found if finding.halts]
    with feature_store.transaction() as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("DELETE FROM {} WHERE check_name = %s").format(_warnings(staging)), [check_name])
        cursor.executemany(
            sql.SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(_warnings(staging)),
            [(check_name, finding.day, finding.sentence) for finding in warnings],
        )
        cursor.executemany(
            "INSERT INTO flight_features_partitions (day, halted) VALUES (%s, %s) "
            "ON CONFLICT (day) DO UPDATE SET halted = excluded.halted",
            [(finding.day, finding.sentence) for finding in halted],
        )
    if warnings:
        shown = ", ".join(f"{finding.day} {finding.sentence}" for finding in warnings[: checks.SHOWN])
        log.warning("%d warnings, all of them on the page: %s.", len(warnings), shown)
    if halted:
        write_page()
    checks.halt(
        found,
        f"the published partitions are unchanged: correct or add the files of these days in "
        f"{data_bucket().uri(raw_files.FOLDER)} and run the days again",
    )


def publish(staging: str, days: Sequence[date]) -> Published:
    """Write one Parquet file per day, replace the partitions in the feature table, and write the page."""
    bucket = data_bucket()

    def store(partition: tuple[date, bytes]) -> tuple[date, str]:
        day, content = partition
        bucket.put(partition_key(day), feature_store.to_parquet(content, PARQUET_TYPES))
        return day, feature_store.checksum(content)

    with feature_store.transaction() as connection:
        checksums = dict(parallel_map(store, _built_partitions(connection, staging, days)))
        counts = _raw_counts(connection, staging, days)
        built = _feature_counts(connection, staging, days)
        rejected = _rejected_rows(connection, staging)
        warnings = _kept_warnings(connection, staging)
        # Not the staging schema, which ends with the run.
        lineage.reads(bucket.uri(raw_files.FOLDER))
        feature_store.replace_partitions(connection, TABLE, (staging, "features"), COLUMNS, days)
        with connection.cursor() as cursor:
            cursor.executemany(
                _sql("record_partition.sql"),
                [
                    {
                        "day": day,
                        "checksum": checksums[day],
                        "counts": Jsonb({**counts[day], **built[day]}),
                        "rejected": Jsonb(rejected.get(day, {})),
                        "warnings": Jsonb(warnings.get(day, [])),
                    }
                    for day in days
                ],
            )
    write_page()
    rows, refused = (sum(counts[day][name] for day in days) for name in ("flights", "rejected_flights"))
    metrics.send({"rows": rows, "rejected_share": float(refused / rows)}, dag_id=TABLE)
    return Published(
        first=str(days[0]),
        last=str(days[-1]),
        partitions=len(days),
        rows=sum(built[day]["rows"] for day in days),
        checksum=sha256("".join(checksums[day] for day in days).encode()).hexdigest(),
    )


def verify(published: Published) -> None:
    """Verify the contract of the feature table for the published days.

    Raises:
        PermanentError: The table violates it.
    """
    with feature_store.transaction() as connection:
        count = soda.verify(connection, CONTRACT, {"first": published["first"], "last": published["last"]})
    log.info("The published days keep all %d checks of %s.", count, CONTRACT.name)


def _built_partitions(
    connection: psycopg.Connection[Any], staging: str, days: Sequence[date]
) -> Iterator[tuple[date, bytes]]:
    for day in days:
        yield day, feature_store.partition_csv(connection, (staging, "features"), COLUMNS, KEY, day)


def partition_key(day: date) -> str:
    """Return the key of a partition's Parquet file in the data bucket."""
    return f"{PARTITIONS}day={day}/features.parquet"


def write_page() -> None:
    """Write the page of all partitions to the artifacts bucket; of two at the same time, the later has both changes."""
    with feature_store.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("LOCK TABLE flight_features_partitions IN SHARE ROW EXCLUSIVE MODE")
        partitions = cursor.execute("SELECT * FROM flight_features_partitions ORDER BY day").fetchall()
        artifacts_bucket().put(PAGE, page.render(partitions), pages.CONTENT_TYPE)


def _raw_counts(connection: psycopg.Connection[Any], staging: str, days: Sequence[date]) -> dict[date, dict[str, Any]]:
    return _counts(connection, _sql("count_raw.sql", staging=staging), days)


def _feature_counts(
    connection: psycopg.Connection[Any], staging: str, days: Sequence[date]
) -> dict[date, dict[str, Any]]:
    query = _sql("count_features.sql", staging=staging, features=FEATURES, history_days=raw_files.HISTORY_DAYS)
    return _counts(connection, query, days)


def _counts(connection: psycopg.Connection[Any], query: str, days: Sequence[date]) -> dict[date, dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, {"days": list(days), "origins": list(ORIGINS)}).fetchall()
    return {row.pop("day"): row for row in rows}


def _rejected_rows(connection: psycopg.Connection[Any], staging: str) -> dict[date, dict[str, int]]:
    """Return how many rows were rejected by table and reason, for each day that has any."""
    query = sql.SQL("SELECT day, source, reason, rows FROM {} WHERE day IS NOT NULL").format(_rejected(staging))
    found: dict[date, dict[str, int]] = {}
    for day, table, reason, rows in connection.execute(query):
        found.setdefault(day, {})[f"{table}: {reason}"] = rows
    return found


def _rejected(staging: str) -> sql.Identifier:
    return sql.Identifier(staging, "rejected")


def _kept_warnings(connection: psycopg.Connection[Any], staging: str) -> dict[date, list[str]]:
    """Return the warnings of each day that has any."""
    query = sql.SQL("SELECT day, array_agg(sentence ORDER BY sentence) FROM {} GROUP BY day").format(_warnings(staging))
    return dict(connection.execute(query).fetchall())


def _warnings(staging: str) -> sql.Identifier:
    return sql.Identifier(staging, "warnings")


def _sql(file: str, **names: Any) -> str:
    return sql_templates.render(SQL / file, **names)
