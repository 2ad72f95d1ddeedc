from typing import Any

import pytest

from infra.errors import OperationError
from ops.laptop.params import image_classifier_schemas, parameters

SCHEMAS = image_classifier_schemas()


def test_params_are_parsed_as_json_if_possible_and_otherwise_as_text() -> None:
    assert parameters("epochs=3 learning_rate=1e-3 prefix=images/x/ base_checkpoint=null", SCHEMAS) == {
        "epochs": 3,
        "learning_rate": 0.001,
        "prefix": "images/x/",
        "base_checkpoint": None,
    }
    assert parameters("", SCHEMAS) == {}


@pytest.mark.parametrize("text", ['prefix="my images/x/"', "prefix='my images/x/'", r"prefix=my\ images/x/"])
def test_a_value_with_a_space_is_quoted_as_in_a_shell(text: str) -> None:
    assert parameters(f"{text} seed=1", SCHEMAS) == {"prefix": "my images/x/", "seed": 1}


@pytest.mark.parametrize(("text", "value"), [("epochs=1.0", 1), ("epochs=2e0", 2), ("seed=1e9", 10**9)])
def test_a_whole_number_is_an_integer_in_any_notation(text: str, value: int) -> None:
    found = next(iter(parameters(text, SCHEMAS).values()))
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pages=one,two", ["one", "two"]),
        ("pages=one", ["one"]),
        ("pages=", []),
        ("""pages='["one, two"]'""", ["one, two"]),
    ],
)
def test_a_list_is_written_with_commas_or_as_json(text: str, expected: list[str]) -> None:
    assert parameters(text, {"pages": {"type": "array", "items": {"type": "string"}}}) == {"pages": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs 3", 'PARAMS contains "epochs": write name=value pairs'),
        ("epochs=3,seed=1", 'invalid value for epochs in PARAMS .*: "3,seed=1" is not of the type integer'),
        ("epoch=9", 'unknown parameter "epoch" in PARAMS: use prefix, architecture, weights, image_size,'),
        ("=9", 'unknown parameter "" in PARAMS: use '),
        ("epochs=1 epochs=2", "PARAMS contains epochs twice"),
        ("epochs=NaN", '"NaN" is not of the type integer'),
        ("learning_rate=NaN", '"NaN" is not of the type number'),
        ("learning_rate=Infinity", '"Infinity" is not of the type number'),
        ("learning_rate=-Infinity", '"-Infinity" is not of the type number'),
        ("learning_rate=1e999", '"1e999" is not of the type number'),
        ("epochs=1.5", "1.5 is not of the type integer"),
        ("epochs=true", "true is not of the type integer"),
        ("epochs=null", "null is not of the type integer"),
        ("epochs=", '"" is not of the type integer'),
        ("epochs=[3]", r"\[3\] is not of the type integer"),
        ("epochs=0", "0 is less than 1"),
        ("epochs=201", "201 is more than 200"),
        (f"epochs={'9' * 5000}", '"9{59}... is not of the type integer'),
        ("learning_rate=0", "0 is not more than 0"),
        ("base_checkpoint=weights.zip", '"weights.zip" does not match'),
        ("prefix=5", "5 is not of the type string"),
        ('prefix="images', "PARAMS cannot be parsed .no closing quotation."),
        ("prefix=caf\udce9/", "PARAMS is not UTF-8"),
        (f"epochs={'[' * 100_000}", "is not of the type integer"),
    ],
)
def test_an_invalid_param_is_refused_with_one_sentence(text: str, message: str) -> None:
    with pytest.raises(OperationError, match=message) as refused:
        parameters(text, SCHEMAS)
    assert len(str(refused.value).splitlines()) == 1


def test_a_dag_without_params_takes_none() -> None:
    assert parameters("", {}) == {}
    with pytest.raises(OperationError, match=r'^unknown parameter "limit" in PARAMS: the DAG has none$'):
        parameters("limit=3", {})


@pytest.mark.parametrize(
    ("schema", "reason"),
    [({"enum": [1, 2]}, "3 is not one of 1 or 2"), ({"multipleOf": 2}, "3 violates multipleOf: 2")],
)
def test_a_param_without_type_and_description_is_checked_by_its_schema(schema: dict[str, Any], reason: str) -> None:
    assert parameters("size=2", {"size": schema}) == {"size": 2}
    with pytest.raises(OperationError, match=rf"^invalid value for size in PARAMS: {reason}$"):
        parameters("size=3", {"size": schema})
