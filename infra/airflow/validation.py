"""Validate Helm values before the chart is rendered: Helm itself ignores unknown keys."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import jsonschema
import pulumi

from infra.errors import OperationError

Schema = Mapping[str, Any]


class ValuesError(OperationError, pulumi.RunError):
    """An invalid values file: one sentence for each mistake, with the file and the key."""


def check(file: str, values: Mapping[str, Any], schema: Schema) -> None:
    """Validate the values of a file against the chart's schema.

    Raises:
        ValuesError: A key is unknown, or a value has the wrong type.
    """
    mistakes = [*unknown_keys(values, schema), *wrong_values(values, schema)]
    if mistakes:
        raise ValuesError("\n".join(f"helm-values/{file}: {mistake}" for mistake in mistakes))


def unknown_keys(values: Mapping[str, Any], schema: Schema, place: str = "") -> Iterator[str]:
    """Yield a sentence for each unknown key in sections where the schema lists the keys.

    A section with arbitrary keys, such as labels, has no `properties`, or has a schema in `additionalProperties`.
    """
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    for key, value in values.items():
        name = f"{place}{key}"
        if key in known:
            if isinstance(value, Mapping):
                yield from unknown_keys(value, known[key], f"{name}.")
        elif known and not isinstance(rest, Mapping):
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {place}{near[0]}?" if near else f"choose from {', '.join(sorted(known))}"
            yield f"{name} is an unknown value of the chart: {hint}"


def wrong_values(values: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    """Yield a sentence for each schema violation other than an unknown key."""
    validator = jsonschema.Draft7Validator(schema)
    for error in validator.iter_errors(values):
        if error.validator != "additionalProperties":
            yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
