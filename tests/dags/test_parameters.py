import math
from types import ModuleType
from typing import Any

import pytest

from image_classifier import parameters, steps, validation
from image_classifier.image_classifier_dag import PARAMS, image_classifier
from ml_common.errors import PermanentError

DEFAULTS = {name: param.value for name, param in PARAMS.items()}
INTEGERS = [name for name, param in PARAMS.items() if param.schema["type"] == "integer"]
NUMBERS = [name for name, param in PARAMS.items() if param.schema["type"] == "number"]


def test_the_defaults_are_read_as_they_are() -> None:
    assert vars(parameters.read(DEFAULTS)) == DEFAULTS


def test_two_checkpoints_to_start_from_are_refused() -> None:
    chosen = {**DEFAULTS, "base_checkpoint": "mine.pth", "weights": "IMAGENET1K_V1"}
    with pytest.raises(PermanentError, match=r"`base_checkpoint` and `weights` both choose .* set only one of them"):
        parameters.read(chosen)


@pytest.mark.parametrize("name", INTEGERS)
def test_a_whole_number_with_a_decimal_point_is_an_integer(name: str) -> None:
    value = float(DEFAULTS[name])
    assert PARAMS[name].resolve(value) == value  # Airflow lets it pass
    read = getattr(parameters.read({**DEFAULTS, name: value}), name)
    assert (read, type(read)) == (DEFAULTS[name], int)


@pytest.mark.parametrize("name", NUMBERS)
def test_equal_numbers_are_read_as_equal_values_of_one_type(name: str) -> None:
    read = getattr(parameters.read({**DEFAULTS, name: 1}), name)
    assert (read, type(read)) == (1.0, float)


@pytest.mark.parametrize("name", [*INTEGERS, *NUMBERS])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, [1]], ids=str)
def test_a_value_that_is_not_a_finite_number_is_refused_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(PermanentError, match=f"The Param `{name}` is .* instead of a (whole|finite) number"):
        parameters.read({**DEFAULTS, name: value})


@pytest.mark.parametrize("name", INTEGERS)
def test_a_fraction_is_not_an_integer(name: str) -> None:
    with pytest.raises(PermanentError, match=f"The Param `{name}` is 1.5 instead of a whole number"):
        parameters.read({**DEFAULTS, name: 1.5})


@pytest.mark.parametrize(("module", "task"), [(validation, "validate"), (steps, "base_checkpoint")])
def test_the_first_tasks_refuse_a_wrong_number_before_they_do_anything(
    module: ModuleType, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, task, lambda *_: pytest.fail("the step was run"))
    function: Any = image_classifier().get_task(task)
    with pytest.raises(PermanentError, match="minimum_accuracy"):
        function.python_callable(params={**DEFAULTS, "minimum_accuracy": math.nan})
