"""A run's Params with the types that the steps count on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ml_common.errors import PermanentError


@dataclass(frozen=True)
class Parameters:
    """The Params of the DAG, which describes them and gives their limits."""

    prefix: str
    image_size: int
    epochs: int
    learning_rate: float
    batch_size: int
    minimum_accuracy: float
    seed: int
    base_checkpoint: str | None


def read(params: Mapping[str, Any]) -> Parameters:
    """Params that Airflow has checked against their JSON schemas, which take 1.0 for an integer and let NaN through.

    Raises PermanentError for a number that is not finite or, where an integer is wanted, not whole.
    """
    return Parameters(
        **{field.name: _typed(field.name, field.type, params[field.name]) for field in fields(Parameters)}
    )


def _typed(name: str, wanted: Any, value: Any) -> Any:
    if wanted not in (int, float):
        return value
    try:
        number = wanted(value)
        right = math.isfinite(number) and number == value
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        kind = "a whole number" if wanted is int else "a finite number"
        raise PermanentError(f"The Param `{name}` is {value!r} instead of {kind}: start a run with another value.")
    return number
