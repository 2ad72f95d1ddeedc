import os
from pathlib import Path
from typing import Any

import pytest

from infra.documents import REPOSITORY, DocumentError, read_json, read_text, read_yaml


def message_of(read: Any, file: Path, *kind: Any) -> str:
    with pytest.raises(DocumentError) as caught:
        read(file, *kind)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.removeprefix(f"{file.parent}/")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{\n  "a": 1,\n}', "f, line 3: not valid JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": 1', "f, line 1: not valid JSON: Expecting ',' delimiter"),
        (b"", "f, line 1: not valid JSON: Expecting value"),
        (b"[" * 100_000, "f: not valid JSON: maximum recursion depth exceeded"),
        (b"[1]", "f: Input should be a valid dictionary"),
        (b"null", "f is empty"),
        (b'{\n  "a": 1,\n  "b": "caf\xe9"\n}', "f, line 3: not UTF-8; save the file as UTF-8"),
        (b'{\n  "a": 1,\n  "b": "x"\n}', "f, line 3: b: Input should be a valid integer"),
        (b'{\n\t"a": 1,\n\t"b": "x"\n}', "f: b: Input should be a valid integer"),
    ],
)
def test_a_mistake_in_json_is_a_sentence_with_the_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    assert message_of(read_json, file, dict[str, int]).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a:\n\tb: 1\n", "f, line 2: not valid YAML: while scanning for the next token, found character '\\t'"),
        (b"a: [\n", "f, line 2: not valid YAML: while parsing a flow node, expected the node content"),
        (b"a: 1\nb: 2026-02-30\n", "f, line 2: not valid YAML: day is out of range for month"),
        (b"a: 1\nb: \x07\n", "f, line 2: not valid YAML: the character U+0007 is not allowed"),
        (
            b"a: 1\n---\nb: 1\n",
            "f, line 2: not valid YAML: expected a single document in the stream, but found another",
        ),
        (b"a: *other\n", "f, line 1: not valid YAML: found undefined alias 'other'"),
        (b"a: !!python/name:os.system\n", "f, line 1: not valid YAML: could not determine a constructor for the tag"),
        (b"", "f is empty"),
        (b"# nothing\n", "f is empty"),
        (b"- a\n", "f: Input should be a valid dictionary"),
        (b"a: 1\nb: 2\nc:\n  - 1\n", "f, line 3: c: Input should be a valid integer"),
        ("a: é".encode("utf-16"), "f, line 1: not UTF-8"),
    ],
)
def test_a_mistake_in_yaml_is_a_sentence_with_the_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    assert message_of(read_yaml, file, dict[str, int]).startswith(sentence)


def test_the_line_of_a_nested_value_is_found(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("a:\n- x: 1\n- x: 1\n  y:\n    z: text\n")
    assert message_of(read_yaml, file, dict[str, list[dict[str, int | dict[str, int]]]]).startswith("f, line 4: a.1.y")


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file, dict[str, int]) == read_yaml(file, dict[str, int]) == {"a": 1}


def test_a_missing_or_unreadable_file_is_a_sentence(tmp_path: Path) -> None:
    assert message_of(read_text, tmp_path / "gone") == "gone cannot be read: No such file or directory"
    (tmp_path / "folder").mkdir()
    assert message_of(read_text, tmp_path / "folder") == "folder cannot be read: Is a directory"
    if os.geteuid():
        (tmp_path / "closed").touch(mode=0)
        assert message_of(read_text, tmp_path / "closed") == "closed cannot be read: Permission denied"


def test_a_file_of_this_repository_is_named_by_its_relative_path() -> None:
    assert message_of(read_text, REPOSITORY / "helm-values" / "gone.yaml").startswith(
        "helm-values/gone.yaml cannot be read"
    )
