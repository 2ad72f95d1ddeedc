"""The validation of values files."""

from typing import Any

import pytest
from airflow.configuration import retrieve_configuration_description
from cryptography.fernet import Fernet

from infra.airflow.secrets import fernet_key
from infra.airflow.validation import ValuesError, check
from infra.helm_values import airflow_settings, merged

SCHEMA: dict[str, Any] = {
    "properties": {
        "scheduler": {
            "properties": {"replicas": {"type": "integer"}, "labels": {"type": "object"}},
        },
        "config": {"type": "object", "additionalProperties": {"type": "object"}},
        "executor": {"type": "string"},
    }
}


def test_a_misspelt_key_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ValuesError,
        match=r"^helm-values/airflow-dev\.yaml: scheduler\.replcas is an unknown value of the chart: "
        r"did you mean scheduler\.replicas\?$",
    ):
        check("airflow-dev.yaml", {"scheduler": {"replcas": 2}}, SCHEMA)


def test_an_unknown_key_is_an_error_with_all_known_keys() -> None:
    with pytest.raises(ValuesError, match="zebra is an unknown value of the chart: choose from config, executor, sch"):
        check("airflow.yaml", {"zebra": 1}, SCHEMA)


def test_a_value_of_the_wrong_type_is_an_error() -> None:
    with pytest.raises(ValuesError, match=r"scheduler\.replicas: 'two' is not of type 'integer'"):
        check("airflow.yaml", {"scheduler": {"replicas": "two"}}, SCHEMA)


def test_every_mistake_is_named() -> None:
    with pytest.raises(ValuesError) as error:
        check("airflow.yaml", {"scheduler": {"replcas": 2, "replicas": "two"}, "exekutor": "x"}, SCHEMA)
    assert len(str(error.value).splitlines()) == 3


def test_sections_with_arbitrary_keys_accept_any_key() -> None:
    check("airflow.yaml", {"scheduler": {"labels": {"team": "ml"}}, "config": {"core": {"parallelism": 8}}}, SCHEMA)


def test_values_are_merged_as_in_helm() -> None:
    shared = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merged(shared, {"a": {"c": [3]}, "d": {"e": 2}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert shared == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


@pytest.mark.parametrize(
    "option", [f"{section}.{option}" for section, options in airflow_settings().items() for option in options]
)
def test_airflow_knows_every_option_of_the_values(option: str) -> None:
    section, name = option.split(".")
    known = retrieve_configuration_description(include_providers=True)
    assert name in known[section]["options"], f"{option} is no option of Airflow or its providers"


def test_a_fernet_key_is_32_bytes_in_url_safe_base64() -> None:
    key = fernet_key("+/" * 21 + "8=")
    assert key == "-_" * 21 + "8="
    assert Fernet(key)
