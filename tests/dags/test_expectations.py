"""Expectations about the rows of several days."""

import socket
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from great_expectations import expectations as gxe
from great_expectations.expectations.metadata_types import FailureSeverity

from ml_common.checks import Finding
from ml_common.expectations import findings

MONDAY, TUESDAY = date(2013, 1, 7), date(2013, 1, 8)
ROWS = pd.DataFrame(
    {
        "day": [MONDAY, MONDAY, TUESDAY, TUESDAY],
        "speed": [10.0, 20.0, 30.0, 40.0],
        "gust": [20.0, 20.0, 30.0, None],
        "name": ["a", "b", "c", "c"],
    }
)


def test_each_day_that_violates_an_expectation_is_a_finding_with_column_value_and_limits() -> None:
    expected = "violates expect_column_values_to_be_between min_value 15.0 max_value 25.0"
    assert findings([gxe.ExpectColumnValuesToBeBetween(column="speed", min_value=15, max_value=25)], ROWS) == [
        Finding(MONDAY, f"has speed 10.0 (rows: 1), which {expected}", halts=True),
        Finding(TUESDAY, f"has speed 30.0 (rows: 2), which {expected}", halts=True),
    ]


def test_what_is_not_critical_warns() -> None:
    unusual = gxe.ExpectColumnValuesToBeBetween(column="speed", max_value=35, severity=FailureSeverity.WARNING)
    [finding] = findings([unusual], ROWS)
    assert (finding.day, finding.halts) == (TUESDAY, False)


def test_missing_values_pairs_and_duplicates_are_found() -> None:
    found = findings(
        [
            gxe.ExpectColumnValuesToNotBeNull(column="gust"),
            gxe.ExpectColumnPairValuesToBeEqual(column_A="speed", column_B="gust"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["day", "name"]),
        ],
        ROWS,
    )
    assert {(finding.day, finding.sentence) for finding in found} == {
        (TUESDAY, "has gust nan (rows: 1), which violates expect_column_values_to_not_be_null"),
        (MONDAY, "has speed 10.0, gust 20.0 (rows: 1), which violates expect_column_pair_values_to_be_equal"),
        (TUESDAY, "has speed 40.0, gust nan (rows: 1), which violates expect_column_pair_values_to_be_equal"),
        (TUESDAY, "has name c (rows: 2), which violates expect_compound_columns_to_be_unique"),
    }


def test_fulfilled_expectations_find_nothing_write_no_file_and_open_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    connections: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _self, address: connections.append(address), raising=False)
    assert findings([gxe.ExpectColumnValuesToBeBetween(column="speed", min_value=0)], ROWS) == []
    assert (list(tmp_path.iterdir()), connections) == ([], [])


def test_an_expectation_that_cannot_be_evaluated_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"^expect_column_values_to_not_be_null was not evaluated: "):
        findings([gxe.ExpectColumnValuesToNotBeNull(column="unknown")], ROWS)
