"""The steps of the DAG flight_features with real data, a real PostgreSQL and a real S3 server."""

import csv
import io
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from psycopg.rows import dict_row
from pyarrow import parquet

from flight_features import raw_files, rules, source, steps
from flight_features.columns import COLUMNS, FEATURES
from ml_common import feature_store, partitions
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket
from tests.dags.conftest import Gauges

DAY = date(2013, 1, 10)
BETWEEN_0_AND_1 = "expect_column_values_to_be_between min_value 0.0 max_value 1.0"
# More days than the features of one read.
DAYS = partitions.between(date(2013, 1, 1), date(2013, 1, 10))

pytestmark = pytest.mark.usefixtures("features", "data", "artifacts", "read_once")


def staged(days: Sequence[date]) -> str:
    """Run the steps up to the loading of the raw files; return the staging schema."""
    staging = steps.create_staging(f"run {uuid4()}")
    for table in raw_files.TABLES:
        steps.land(table, days)
        steps.stage(table, staging, days)
    return staging


def run(*days: date, expectations: bool = False) -> steps.Published:
    """Run the steps as the DAG does, with the teardown also after a failure.

    Checking the expectations takes longer than everything else, and changes no partition.
    """
    staging = staged(days)
    try:
        steps.check_raw(staging, days)
        steps.build(staging, days)
        if expectations:
            steps.check_features(staging, days)
        return steps.publish(staging, days)
    finally:
        steps.drop_staging(staging)


def rows(features: psycopg.Connection, day: date) -> list[dict[str, Any]]:
    with features.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM flight_features WHERE day = %s", [day]).fetchall()


def record(features: psycopg.Connection, day: date) -> dict[str, Any]:
    with features.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute("SELECT * FROM flight_features_partitions WHERE day = %s", [day]).fetchone()
    assert found
    return found


def checksums(features: psycopg.Connection) -> dict[date, str]:
    return dict(features.execute("SELECT day, checksum FROM flight_features_partitions").fetchall())


def parquet_files(data: Bucket) -> dict[str, bytes]:
    return {entry.key: data.get(entry.key) for entry in data.list(steps.PARTITIONS)}


def raw(table: str, day: date | None) -> list[dict[str, str]]:
    """The rows of a day at the source."""
    return list(csv.DictReader(io.StringIO(source.read(table)[day].decode())))


def edit(data: Bucket, table: str, day: date, change: Callable[[list[dict[str, str]]], None]) -> None:
    """Change the rows of a raw file in the data bucket."""
    changed = raw(table, day)
    change(changed)
    file = io.StringIO()
    writer = csv.DictWriter(file, raw_files.COLUMNS[table], lineterminator="\n")
    writer.writeheader()
    writer.writerows(changed)
    data.put(raw_files.key(table, day), file.getvalue().encode())


def page(artifacts: Bucket) -> str:
    found = boto3.client("s3").get_object(Bucket=artifacts.name, Key=steps.PAGE)
    assert found["ContentType"] == "text/html; charset=utf-8"  # or a browser downloads it
    return str(found["Body"].read().decode())


def is_late(flight: dict[str, str]) -> bool:
    return flight["arr_delay"] == "NA" or int(flight["arr_delay"]) >= 30


def late_share(column: str, value: str) -> float:
    """The share of late flights in the seven days before."""
    earlier = [flight for number in range(1, 8) for flight in raw("flights", DAY - timedelta(days=number))]
    of_value = [is_late(flight) for flight in earlier if flight[column] == value]
    return sum(of_value) / len(of_value)


def test_every_flight_of_a_day_becomes_a_row_with_what_was_known_before_departure(
    features: psycopg.Connection,
) -> None:
    assert run(DAY)["rows"] == len(raw("flights", DAY))
    planes = {plane["tailnum"]: plane for plane in raw("planes", None)}
    weather = {(hour["origin"], hour["hour"]): hour for hour in raw("weather", DAY)}
    expected = {(flight["carrier"], int(flight["flight"]), flight["hour"]): flight for flight in raw("flights", DAY)}
    found = {(row["carrier"], row["flight"], str(row["scheduled_departure"].hour)): row for row in rows(features, DAY)}
    assert found.keys() == expected.keys()
    for key, flight in expected.items():
        row, hour, plane = found[key], weather[flight["origin"], flight["hour"]], planes.get(flight["tailnum"])
        assert row["late"] is is_late(flight)
        assert row["scheduled_departure"] == datetime(2013, 1, 10, int(flight["hour"]), int(flight["minute"]))
        assert row["minute_of_day"] == int(flight["hour"]) * 60 + int(flight["minute"])
        assert (row["day_of_week"], row["distance"]) == (4, int(flight["distance"]))
        assert row["temperature"] == float(hour["temp"])
        assert row["wind_gust"] == (None if hour["wind_gust"] == "NA" else float(hour["wind_gust"]))
        assert row["plane_seats"] == (float(plane["seats"]) if plane else None)
    united = next(row for row in rows(features, DAY) if row["carrier"] == "UA" and row["origin"] == "EWR")
    assert united["late_share_carrier"] == late_share("carrier", "UA")
    assert united["late_share_origin"] == late_share("origin", "EWR")
    at_nine = [flight for flight in raw("flights", DAY) if flight["origin"] == "JFK" and flight["hour"] == "9"]
    [counted] = {row["flights_in_hour"] for key, row in found.items() if row["origin"] == "JFK" and key[2] == "9"}
    assert counted == len(at_nine)


def test_the_outcome_of_a_day_does_not_change_its_own_features(features: psycopg.Connection, data: Bucket) -> None:
    def without_outcome() -> list[dict[str, Any]]:
        return sorted(({**row, "late": None} for row in rows(features, DAY)), key=repr)

    def all_late(flights: list[dict[str, str]]) -> None:
        for flight in flights:
            flight["arr_delay"] = "600"

    run(DAY)
    before = without_outcome()
    edit(data, "flights", DAY, all_late)
    run(DAY)
    assert all(row["late"] for row in rows(features, DAY))
    assert without_outcome() == before


def test_a_backfill_in_any_order_gives_the_partitions_of_one_run_of_all_days(
    features: psycopg.Connection, data: Bucket
) -> None:
    run(*DAYS)
    at_once, files = checksums(features), parquet_files(data)
    assert sorted(at_once) == DAYS
    features.execute("TRUNCATE flight_features, flight_features_partitions")
    for day in random.Random(0).sample(DAYS, len(DAYS)):
        run(day)
    assert checksums(features) == at_once
    assert parquet_files(data) == files
    counted = features.execute("SELECT day, count(*) FROM flight_features GROUP BY day ORDER BY day").fetchall()
    assert counted == [(day, len(raw("flights", day))) for day in DAYS]


def test_a_second_run_of_a_day_changes_no_byte(features: psycopg.Connection, data: Bucket) -> None:
    first = run(DAY)
    before = rows(features, DAY), parquet_files(data)
    assert run(DAY) == first
    assert (rows(features, DAY), parquet_files(data)) == before


def test_a_second_run_of_a_day_waits_until_the_first_has_published(features: psycopg.Connection) -> None:
    run(DAY)
    staging = staged([DAY])
    steps.build(staging, [DAY])

    def replace(connection: psycopg.Connection[Any]) -> None:
        feature_store.replace_partitions(connection, steps.TABLE, (staging, "features"), COLUMNS, [DAY])

    def second() -> None:
        with feature_store.transaction() as connection:
            replace(connection)

    with ThreadPoolExecutor(1) as pool:
        with feature_store.transaction() as first:
            replace(first)
            waiting = pool.submit(second)
            assert wait([waiting], timeout=1).not_done
        waiting.result(timeout=300)
    assert len(rows(features, DAY)) == len(raw("flights", DAY))


def test_the_parquet_file_of_a_day_has_the_rows_of_the_table(features: psycopg.Connection, data: Bucket) -> None:
    run(DAY)
    table = parquet.read_table(io.BytesIO(data.get(steps.partition_key(DAY))))
    assert tuple(table.column_names) == COLUMNS
    assert {str(table.schema.field(feature).type) for feature in FEATURES} == {"double"}
    stored = features.execute("SELECT * FROM flight_features ORDER BY day, carrier, flight, scheduled_departure")
    assert [tuple(row[column] for column in COLUMNS) for row in table.to_pylist()] == stored.fetchall()


def test_an_unknown_origin_halts_and_keeps_the_old_partition(
    features: psycopg.Connection, data: Bucket, artifacts: Bucket
) -> None:
    def misspell(flights: list[dict[str, str]]) -> None:
        for flight in flights[:3]:
            flight["origin"] = "<b>"

    run(DAY)
    before = rows(features, DAY), parquet_files(data), record(features, DAY)
    edit(data, "flights", DAY, misspell)
    with pytest.raises(PermanentError) as halted:
        run(DAY)
    assert str(halted.value) == (
        "Nothing was published: 2013-01-10 has 3 flights of an unknown origin <b>; the published partitions are "
        "unchanged: correct or add the files of these days in "
        f"s3://{data.name}/flight_features/raw/ and run the days again."
    )
    assert (rows(features, DAY), parquet_files(data)) == before[:2]
    assert record(features, DAY) == {**before[2], "halted": "has 3 flights of an unknown origin <b>"}
    assert "has 3 flights of an unknown origin &lt;b&gt;" in page(artifacts)
    assert "unchanged since" in page(artifacts)

    data.put(raw_files.key("flights", DAY), source.read("flights")[DAY])
    run(DAY)
    assert rows(features, DAY) == before[0]
    assert "unknown origin" not in page(artifacts)


def test_a_day_that_halts_keeps_a_run_of_several_days_from_publishing_any(
    features: psycopg.Connection, data: Bucket
) -> None:
    data.put(raw_files.key("flights", DAY), ",".join(raw_files.COLUMNS["flights"]).encode() + b"\n")
    with pytest.raises(
        PermanentError, match=r"^Nothing was published: 2013-01-10 has no flights; the published partitions are"
    ):
        run(DAY - timedelta(days=1), DAY)
    assert features.execute("SELECT count(*) FROM flight_features").fetchone() == (0,)
    assert parquet_files(data) == {}


def test_a_day_without_data_halts_in_one_sentence_and_is_on_the_page(artifacts: Bucket) -> None:
    with pytest.raises(PermanentError, match=r"^Nothing was published: 2014-01-01 has no flights; [^.]*\.$"):
        run(date(2014, 1, 1))
    assert "2014-01-01" in page(artifacts)


def test_missing_gusts_and_hours_of_weather_warn(features: psycopg.Connection, data: Bucket, artifacts: Bucket) -> None:
    def lose(hours: list[dict[str, str]]) -> None:
        del hours[60:]
        for hour in hours:
            hour["wind_gust"] = "20.5"
        for hour in hours[:48]:
            hour["wind_gust"] = "NA"

    edit(data, "weather", DAY, lose)
    run(DAY)
    assert record(features, DAY)["warnings"] == [
        "lacks 12 of 72 hours of weather",
        "lacks the wind gust in 48 of 60 hours",
    ]
    assert "lacks the wind gust in 48 of 60 hours" in page(artifacts)


def test_rows_that_cannot_be_used_are_counted_by_reason(
    features: psycopg.Connection, data: Bucket, artifacts: Bucket, gauges: Gauges
) -> None:
    def spoil(flights: list[dict[str, str]]) -> None:
        flights[0]["distance"] = "far"
        flights[1]["arr_delay"] = "1.5"
        flights[2]["flight"] = "NA"
        flights[3]["minute"] = "60"
        flights[4]["dest"] = "NA"
        flights[5]["month"] = "2"
        flights.append(flights[6])

    def spoil_weather(hours: list[dict[str, str]]) -> None:
        hours[0]["temp"] = "NaN"
        hours[1]["humid"] = "Infinity"
        hours[2]["pressure"] = "high"
        hours[3]["origin"] = "BOS"
        hours[4]["day"] = "11"
        hours.append(hours[5])

    edit(data, "flights", DAY, spoil)
    edit(data, "weather", DAY, spoil_weather)
    run(DAY)
    assert record(features, DAY)["rejected"] == {
        "flights: duplicate flight": 1,
        "flights: no carrier or destination": 1,
        "flights: not a number": 3,
        "flights: not a time": 1,
        "flights: of another day": 1,
        "weather: duplicate hour": 1,
        "weather: not a number": 3,
        "weather: of another day": 1,
        "weather: unknown origin BOS": 1,
    }
    assert len(rows(features, DAY)) == len(raw("flights", DAY)) - 6
    assert "<div>weather: not a number 3</div>" in page(artifacts)
    sent = {"airflow.ml.rows,dag_id=flight_features": 933, "airflow.ml.rejected_share,dag_id=flight_features": 7 / 933}
    assert gauges() == pytest.approx(sent)


def test_many_rows_that_cannot_be_used_halt(data: Bucket) -> None:
    def spoil(flights: list[dict[str, str]]) -> None:
        for flight in flights[:100]:
            flight["distance"] = "far"

    edit(data, "flights", DAY, spoil)
    with pytest.raises(
        PermanentError, match=r"2013-01-10 has 100 of 932 flights that cannot be used \(not a number\);"
    ):
        run(DAY)


def test_the_hour_that_the_clock_shows_twice_gives_no_flight_twice(features: psycopg.Connection) -> None:
    day = date(2013, 11, 3)
    assert run(day)["rows"] == len(raw("flights", day))
    assert record(features, day)["rejected"] == {"weather: duplicate hour": 3}


def test_cancelled_flights_and_unknown_planes_are_kept_and_counted(features: psycopg.Connection) -> None:
    run(DAY)
    flights, planes = raw("flights", DAY), {plane["tailnum"] for plane in raw("planes", None)}
    counts = record(features, DAY)["counts"]
    assert counts["cancelled"] == sum(flight["dep_time"] == "NA" for flight in flights) > 0
    assert counts["unknown_planes"] == sum(flight["tailnum"] not in planes for flight in flights) > 0
    assert counts["nulls"]["plane_seats"] == counts["unknown_planes"]
    assert counts["late"] == sum(map(is_late, flights))


def test_a_file_with_other_columns_is_named(data: Bucket) -> None:
    data.put(raw_files.key("weather", DAY), b"origin,temperature\nEWR,50\n")
    expected = (
        rf"^s3://{data.name}/flight_features/raw/weather/2013-01-10.csv is not a CSV file with the columns of weath"
    )
    with pytest.raises(PermanentError, match=expected):
        staged([DAY])


@pytest.mark.parametrize(
    ("change", "observed", "expectation"),
    [
        ("DELETE FROM {} WHERE carrier = 'HA'", "rows 931, kept_flights 932", "expect_column_pair_values_to_be_equal"),
        ("UPDATE {} SET late_share_route = 1.5 WHERE carrier = 'HA'", "late_share_route 1.5", BETWEEN_0_AND_1),
        ("UPDATE {} SET distance = NULL WHERE carrier = 'HA'", "distance nan", "expect_column_values_to_not_be_null"),
    ],
    ids=["lost row", "impossible share", "missing value"],
)
def test_a_violated_expectation_halts_in_one_sentence_with_column_and_value(
    features: psycopg.Connection, artifacts: Bucket, change: str, observed: str, expectation: str
) -> None:
    staging = staged([DAY])
    steps.build(staging, [DAY])
    features.execute(change.format(f"{staging}.features"))
    with pytest.raises(PermanentError) as halted:
        steps.check_features(staging, [DAY])
    sentence = f"has {observed} (rows: 1), which violates {expectation}"
    assert str(halted.value).startswith(f"Nothing was published: 2013-01-10 {sentence}; the published partitions are")
    assert record(features, DAY)["halted"] == sentence
    assert sentence in page(artifacts)


def test_a_flight_that_is_twice_among_the_features_halts(features: psycopg.Connection) -> None:
    staging = staged([DAY])
    steps.build(staging, [DAY])
    features.execute(f"INSERT INTO {staging}.features SELECT * FROM {staging}.features WHERE carrier = 'HA'")
    with pytest.raises(PermanentError, match=r" has carrier HA, flight 51, .* \(rows: 2\), which violates expect_co"):
        steps.check_features(staging, [DAY])


def test_a_day_with_few_flights_and_unusual_weather_is_published_with_warnings(
    features: psycopg.Connection, data: Bucket, artifacts: Bucket
) -> None:
    def lose(flights: list[dict[str, str]]) -> None:
        del flights[300:]

    def heat(hours: list[dict[str, str]]) -> None:
        for hour in hours:
            hour["temp"] = "120"

    edit(data, "flights", DAY, lose)
    edit(data, "weather", DAY, heat)
    assert run(DAY, expectations=True)["rows"] == 300
    found = record(features, DAY)["warnings"]
    assert found[0].startswith("has share_of_recent_days 0.3")
    assert found[1].startswith("has temperature 120.0 (rows: 300), which violates expect_column_values_to_be_between ")
    assert all(text in page(artifacts) for text in found)


def test_the_flights_of_a_day_fulfil_all_expectations(features: psycopg.Connection) -> None:
    run(DAY, expectations=True)
    assert not [text for text in record(features, DAY)["warnings"] if "expect_" in text]


def test_published_days_keep_the_contract_of_the_table_and_a_changed_table_violates_it(
    features: psycopg.Connection,
) -> None:
    published = run(DAY)
    steps.verify(published)
    features.execute("UPDATE flight_features SET origin = 'BOS' WHERE carrier = 'HA'")
    features.execute("ALTER TABLE flight_features DROP COLUMN pressure")
    with pytest.raises(PermanentError) as violated:
        steps.verify(published)
    assert str(violated.value) == (
        f"{steps.CONTRACT} is violated: checks.schema is FAILED (1), columns.origin.checks.invalid is FAILED (1)."
    )


def test_a_step_that_is_tried_again_gives_the_same_result(features: psycopg.Connection) -> None:
    staging = staged([DAY])
    steps.build(staging, [DAY])
    first = steps.publish(staging, [DAY])
    for table in raw_files.TABLES:
        steps.stage(table, staging, [DAY])
    steps.build(staging, [DAY])
    steps.check_features(staging, [DAY])
    assert steps.publish(staging, [DAY]) == first
    assert record(features, DAY)["rejected"] == {}


def test_an_object_store_that_fails_while_publishing_changes_no_partition(
    features: psycopg.Connection, s3: ThreadedMotoServer
) -> None:
    staging = staged([DAY])
    steps.build(staging, [DAY])
    s3.stop()
    try:
        with pytest.raises(ServiceUnavailableError):
            steps.publish(staging, [DAY])
    finally:
        s3.start()
    assert rows(features, DAY) == []
    assert checksums(features) == {}


def test_the_staging_schema_of_a_run_is_dropped(features: psycopg.Connection) -> None:
    run(DAY)
    query = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'staging%'"
    assert features.execute(query).fetchone() == (0,)
    assert steps.create_staging("one") != steps.create_staging("two")
    assert features.execute(query).fetchone() == (2,)


def test_files_that_were_copied_are_not_read_from_the_source_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps.land("flights", [DAY]) == 8
    monkeypatch.delattr(source, "read")
    assert steps.land("flights", [DAY]) == 0


def test_the_feature_store_without_a_connection_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_FEATURES")
    with pytest.raises(
        PermanentError, match=r"^The Airflow connection `features` is not defined: set AIRFLOW_CONN_FEA"
    ):
        steps.create_staging("run")


def test_a_feature_store_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FEATURES", "postgresql://features:secret@127.0.0.1:1/features")
    with pytest.raises(ServiceUnavailableError, match=r"^The feature store's database does not answer;") as refused:
        steps.create_staging("run")
    assert "secret" not in str(refused.value)


def test_a_failed_transaction_changes_nothing(features: psycopg.Connection) -> None:
    run(DAY)
    before = rows(features, DAY)

    def fail() -> None:
        with feature_store.transaction() as connection:
            feature_store.replace_partitions(connection, steps.TABLE, ("public", steps.TABLE), COLUMNS, [DAY])
            assert connection.execute("SELECT count(*) FROM flight_features").fetchone() == (0,)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert rows(features, DAY) == before


def test_the_origins_of_the_rules_are_those_of_the_data() -> None:
    assert {flight["origin"] for flight in raw("flights", DAY)} == set(rules.ORIGINS)
