import pytest

from infra.errors import OperationError
from ops.laptop.params import parameters


def test_params_are_parsed_as_json_if_possible_and_otherwise_as_text() -> None:
    assert parameters("epochs=3 learning_rate=1e-3 prefix=images/x/ base_checkpoint=null") == {
        "epochs": 3,
        "learning_rate": 0.001,
        "prefix": "images/x/",
        "base_checkpoint": None,
    }
    assert parameters("") == {}


@pytest.mark.parametrize("text", ['prefix="my images/x/"', "prefix='my images/x/'", r"prefix=my\ images/x/"])
def test_a_value_with_a_space_is_quoted_as_in_a_shell(text: str) -> None:
    assert parameters(f"{text} seed=1") == {"prefix": "my images/x/", "seed": 1}


@pytest.mark.parametrize(("text", "value"), [("epochs=1.0", 1), ("epochs=2e0", 2), ("seed=1e9", 10**9)])
def test_a_whole_number_is_an_integer_in_any_notation(text: str, value: int) -> None:
    found = next(iter(parameters(text).values()))
    assert (found, type(found)) == (value, int)


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
        parameters(text)
    assert len(str(refused.value).splitlines()) == 1
