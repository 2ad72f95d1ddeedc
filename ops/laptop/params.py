"""The Params that `make up` and `make run` pass to a DAG, validated with the DAG's schemas."""

import json
import math
import runpy
import shlex
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from infra.documents import REPOSITORY
from infra.errors import OperationError

SCHEMAS = REPOSITORY / "dags" / "image_classifier" / "param_schemas.py"
EXAMPLE = 'PARAMS="epochs=3 seed=1"'
SHOWN_CHARACTERS = 60

Schemas = Mapping[str, Mapping[str, Any]]


def image_classifier_schemas() -> Schemas:
    """Return the schemas of the Params of the DAG that `make up` runs, before Airflow runs."""
    return dict(runpy.run_path(str(SCHEMAS))["SCHEMAS"])


def parameters(text: str, schemas: Schemas) -> dict[str, Any]:
    """Parse `name=value` pairs, which may be quoted.

    A value that is valid JSON is parsed; any other is text, or a list of texts between commas if the Param is a list.

    Args:
        text: The pairs.
        schemas: The JSON schemas of the DAG's Params, by name.

    Raises:
        OperationError: A word is not a pair, a Param is unknown, or its value is invalid.
    """
    found: dict[str, Any] = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise OperationError(f"PARAMS contains {_shown(word)}: write name=value pairs, such as {EXAMPLE}")
        if name not in schemas:
            known = f"use {', '.join(schemas)}" if schemas else "the DAG has none"
            raise OperationError(f"unknown parameter {_shown(name)} in PARAMS: {known}")
        if name in found:
            raise OperationError(f"PARAMS contains {name} twice: set it once")
        found[name] = _checked(name, _value(value), schemas[name])
    return found


def _words(text: str) -> list[str]:
    try:
        text.encode()
        return shlex.split(text)
    except UnicodeEncodeError as error:
        raise OperationError("PARAMS is not UTF-8: use a terminal that is set to UTF-8") from error
    except ValueError as error:
        raise OperationError(f"PARAMS cannot be parsed ({str(error).lower()}): write it like {EXAMPLE}") from error


def _value(text: str) -> Any:
    """Parse JSON, but not NaN and Infinity, which Python accepts and JSON does not define."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _checked(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the validated value; 1.0, an integer in JSON Schema, becomes a Python integer."""
    if schema.get("type") == "array" and isinstance(value, str):
        value = value.split(",") if value else []
    error = next(Draft202012Validator(schema).iter_errors(value), None)
    if error:
        reason = f"{_shown(value)} {_requirement(error.validator, error.validator_value)}"
        about = f" ({schema['description'].rstrip('.')})" if schema.get("description") else ""
        raise OperationError(f"invalid value for {name} in PARAMS{about}: {reason}")
    return int(value) if schema.get("type") == "integer" else value


def _requirement(keyword: str, limit: Any) -> str:
    """Describe the schema keyword that a value violates."""
    texts = {
        "type": "is not of the type {}",
        "enum": "is not one of {}",
        "minimum": "is less than {}",
        "exclusiveMinimum": "is not more than {}",
        "maximum": "is more than {}",
        "pattern": "does not match {}",
    }
    shown = " or ".join(map(str, limit)) if isinstance(limit, list) else limit
    return texts.get(keyword, f"violates {keyword}: {{}}").format(shown)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
