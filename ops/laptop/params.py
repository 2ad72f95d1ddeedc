"""The Params that `make up` passes to the DAG, checked in the DAG's own schemas before anything is started."""

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


def parameters(text: str) -> dict[str, Any]:
    """Read `name=value` pairs, which quotes may enclose; a value that is JSON is taken as such, any other as text.

    Raises:
        OperationError: A word is not a pair, or the DAG has no such Param or does not take the value.
    """
    schemas: Mapping[str, Mapping[str, Any]] = runpy.run_path(str(SCHEMAS))["SCHEMAS"]
    found: dict[str, Any] = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise OperationError(f"PARAMS has the word {_shown(word)}: write name=value pairs, such as {EXAMPLE}")
        if name not in schemas:
            raise OperationError(f"PARAMS has {_shown(name)}, which is not one of {', '.join(schemas)}")
        if name in found:
            raise OperationError(f"PARAMS has {name} twice: give it once")
        found[name] = _checked(name, _value(value), schemas[name])
    return found


def _words(text: str) -> list[str]:
    try:
        text.encode()
        return shlex.split(text)
    except UnicodeEncodeError as error:
        raise OperationError("PARAMS is not UTF-8: write it in a terminal that is set to UTF-8") from error
    except ValueError as error:
        raise OperationError(f"PARAMS cannot be read ({str(error).lower()}): write it like {EXAMPLE}") from error


def _value(text: str) -> Any:
    """Read JSON; NaN and the infinities, which Python would take, are none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _checked(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value as the DAG takes it; JSON schema calls 1.0 an integer, Python does not."""
    error = next(Draft202012Validator(schema).iter_errors(value), None)
    if error:
        reason = f"{_shown(value)} {_requirement(error.validator, error.validator_value)}"
        raise OperationError(f"PARAMS has a wrong value for {name} ({schema['description'].rstrip('.')}): {reason}")
    return int(value) if schema["type"] == "integer" else value


def _requirement(keyword: str, limit: Any) -> str:
    """Return what a value does not fulfil."""
    texts = {
        "type": f"is not of the type {' or '.join(limit) if isinstance(limit, list) else limit}",
        "minimum": f"is less than {limit}",
        "exclusiveMinimum": f"is not more than {limit}",
        "maximum": f"is more than {limit}",
        "pattern": f"does not match {limit}",
    }
    return texts[keyword]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
