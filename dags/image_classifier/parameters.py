"""A run's Params, with the types that the steps expect."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ml_common.errors import PermanentError

NO_WEIGHTS = "none"


@dataclass(frozen=True)
class Parameters:
    """The DAG's Params, as param_schemas.py describes them."""

    prefix: str
    architecture: str
    weights: str
    image_size: int
    epochs: int
    learning_rate: float
    batch_size: int
    minimum_accuracy: float
    seed: int
    workers: int
    precision: str | None
    base_checkpoint: str | None


def read(params: Mapping[str, Any]) -> Parameters:
    """Read Params that Airflow has checked against their JSON schemas, which take 1.0 as an integer and accept NaN.

    Raises:
        PermanentError: A number is not finite or, where an integer is expected, not whole; or two Params name
            different checkpoints.
    """
    found = Parameters(
        **{field.name: _typed(field.name, field.type, params[field.name]) for field in fields(Parameters)}
    )
    if found.base_checkpoint and found.weights != NO_WEIGHTS:
        raise PermanentError(
            "The Params `base_checkpoint` and `weights` both choose where training starts: set only one of them."
        )
    return found


def _typed(name: str, wanted: Any, value: Any) -> Any:
    if wanted not in (int, float):
        return value
    try:
        number = wanted(value)
        valid = math.isfinite(number) and number == value
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        kind = "a whole number" if wanted is int else "a finite number"
        raise PermanentError(f"The Param `{name}` is {value!r} instead of {kind}: start a run with another value.")
    return number
