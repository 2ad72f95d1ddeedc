"""Read files that are edited by hand and report mistakes in one sentence with file, line and problem."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from infra.errors import OperationError

REPOSITORY = Path(__file__).resolve().parents[1]

Kind = TypeVar("Kind")


class DocumentError(OperationError):
    """A file that cannot be read or has invalid content."""


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises:
        DocumentError: The file cannot be read, or is not UTF-8.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DocumentError(f"{_name(file)} cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"{_name(file)}, line {line}: not UTF-8; save the file as UTF-8") from error


def read_json(file: Path, kind: type[Kind]) -> Kind:
    """Return the content of a JSON file, validated as a type.

    Raises:
        DocumentError: The file cannot be read, is not valid JSON, or does not match the type.
    """
    return _parsed(read_text(file), file, kind, "JSON", json.loads)


def read_yaml(file: Path, kind: type[Kind], empty: Kind | None = None) -> Kind:
    """Return the content of a YAML file, validated as a type; an empty file yields `empty`.

    Raises:
        DocumentError: The file cannot be read, is not valid YAML, or does not match the type.
    """
    return _parsed(read_text(file), file, kind, "YAML", _load_yaml, empty)


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # from a scalar such as the date 2026-02-30, without a position
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader


def _parsed(
    text: str, file: Path, kind: type[Kind], language: str, parse: Callable[[str], Any], empty: Kind | None = None
) -> Kind:
    try:
        content = parse(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        line, problem = _place(error, text)
        raise DocumentError(f"{_name(file)}{_at(line)}: not valid {language}: {problem}") from error
    if content is None and empty is not None:
        return empty
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        if content is None:
            raise DocumentError(f"{_name(file)} is empty") from None
        details = error.errors(include_input=False)[0]
        place = ".".join(map(str, details["loc"]))
        problem = f"{place}: {details['msg']}" if place else details["msg"]
        raise DocumentError(f"{_name(file)}{_at(_line_of(details['loc'], text))}: {problem}") from None


def _place(error: Exception, text: str) -> tuple[int | None, str]:
    """Return the line of a syntax error, if known, and the problem."""
    if isinstance(error, json.JSONDecodeError):
        return error.lineno, error.msg
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return mark.line + 1 if mark else None, ", ".join(filter(None, (error.context, error.problem)))
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, f"the character U+{error.character:04X} is not allowed"
    return None, " ".join(str(error).split())


def _line_of(place: Sequence[int | str], text: str) -> int | None:
    """Return the line of a value; JSON is parsed as YAML, because only the YAML parser reports lines."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    line = None
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        else:
            break
    return line


def _at(line: int | None) -> str:
    return f", line {line}" if line else ""


def _name(file: Path) -> str:
    return str(file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else file)
