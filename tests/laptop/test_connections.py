"""Files of Airflow connections."""

from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.airflow import connections


def test_a_file_has_the_fields_of_airflows_api(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.yaml"
    file.write_text("{conn_type: postgres, host: db.example.com, port: 5432, schema: sales, extra: {sslmode: require}}")
    assert connections.read(file).fields == {
        "conn_type": "postgres",
        "host": "db.example.com",
        "port": 5432,
        "login": None,
        "schema": "sales",
        "description": None,
        "extra": '{"sslmode": "require"}',
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{conn_type: http, password: x}", "a password does not belong here: put it into another file"),
        ("{host: x}", "conn_type: Field required"),
        ("{conn_type: http, hots: x}", "hots: Extra inputs are not permitted"),
        ("{conn_type: http, port: 70000}", "port: "),
        ("{conn_type: http", "YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "warehouse.yaml"
    file.write_text(content)
    with pytest.raises(OperationError, match=message) as caught:
        connections.read(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 201, "../users"])
def test_a_name_that_airflow_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(OperationError, match="cannot name a connection"):
        connections.check_name(name)
