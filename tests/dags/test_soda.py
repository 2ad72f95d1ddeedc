"""Contracts of Soda, and programs in separate Python environments."""

import sys
from pathlib import Path

import psycopg
import pytest

from ml_common import soda, tools
from ml_common.errors import PermanentError

CONTRACT = """
dataset: features/${var.database}/public/rooms
variables: {database: {}, day: {}}
filter: day = '${var.day}'
columns:
  - name: day
    data_type: date
  - name: seats
    data_type: integer
    checks:
      - missing:
      - invalid: {valid_min: 1}
checks:
  - schema:
  - row_count:
"""
ECHO = """
import json, os, sys
print("read", file=sys.stderr)
json.dump({"value": json.load(sys.stdin), "variables": sorted(os.environ), "arguments": sys.argv[1:]}, sys.stdout)
"""


@pytest.fixture
def contract(features: psycopg.Connection, tmp_path: Path) -> Path:
    """A contract about a table with two days, the second of which violates it."""
    features.execute("CREATE TABLE rooms (day date, seats integer)")
    features.execute("INSERT INTO rooms VALUES ('2013-01-01', 4), ('2013-01-02', 0), ('2013-01-02', NULL)")
    file = tmp_path / "contract.yaml"
    file.write_text(CONTRACT)
    return file


def test_only_the_checks_of_a_table_that_violates_its_contract_fail_with_their_values(
    features: psycopg.Connection, contract: Path
) -> None:
    assert soda.verify(features, contract, {"day": "2013-01-01"}) == 4
    with pytest.raises(PermanentError) as failed:
        soda.verify(features, contract, {"day": "2013-01-02"})
    checks = ("columns.seats.checks.missing", "columns.seats.checks.invalid")
    assert str(failed.value) == f"{contract} is violated: {', '.join(f'{check} is FAILED (1)' for check in checks)}."


def test_a_contract_that_cannot_be_evaluated_is_no_success(features: psycopg.Connection, contract: Path) -> None:
    contract.write_text(CONTRACT.replace("seats", "places"))
    with pytest.raises(PermanentError):
        soda.verify(features, contract, {"day": "2013-01-01"})


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a program whose environment is that of the tests."""
    monkeypatch.setenv("ECHO_PYTHON", sys.executable)
    return tmp_path / "program.py"


def test_a_tool_answers_a_value_and_sees_no_secret_of_the_task(
    program: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FEATURES", "postgresql://features:secret@127.0.0.1/features")
    program.write_text(ECHO)
    with caplog.at_level("INFO"):
        answer = tools.run("echo", program, {"password": "secret"})
    assert (answer["value"], answer["arguments"]) == ({"password": "secret"}, [])
    assert set(answer["variables"]) <= {*tools.ENVIRONMENT, "LC_CTYPE"}
    assert "echo: read" in caplog.text
    assert "secret" not in caplog.text


def test_a_tool_that_fails_is_an_error(program: Path) -> None:
    program.write_text("raise SystemExit(3)")
    with pytest.raises(PermanentError, match=r"^echo failed with exit code 3: see its output in this log\.$"):
        tools.run("echo", program, None)


def test_a_missing_environment_is_explained(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_PYTHON", "/nowhere/python")
    with pytest.raises(
        PermanentError, match=r"^The environment of echo is missing: run `make .venv-echo/ready`, or set"
    ):
        tools.run("echo", program, None)
