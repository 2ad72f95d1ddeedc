"""The documents that `make up` indexes, and the answers that it shows."""

from pathlib import Path
from typing import Any

import pytest

from infra.errors import OperationError
from ops.laptop import documents


def write(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file)
    return folder


def test_the_documentation_of_this_repository_is_uploaded_with_its_question_set() -> None:
    names = {file.name for file in documents.of_repository()}
    assert {"README.md", "CONTRIBUTING.md", "docs/aws.md", "docs/runbooks/rollback.md", "docs/questions.yaml"} <= names
    assert all(name.endswith(".md") for name in names - {"docs/questions.yaml"})


def test_a_folder_is_uploaded_without_hidden_files(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b/c.pdf", "b/questions.yaml", ".git/config", "b/.hidden.md")
    found = documents.in_folder(tmp_path)
    assert {file.name: file.read().decode() for file in found} == {
        name: name for name in ("a.md", "b/c.pdf", "b/questions.yaml")
    }


def test_a_folder_without_a_question_set_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match=r"has no questions.yaml, .* such as \{question: "):
        documents.in_folder(write(tmp_path, "a.md", "my-questions.yaml"))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="nowhere is not a readable folder"):
        documents.in_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["Mein Handbuch", "2024", "日本", "a" * 60])
def test_each_folder_has_an_index_whose_name_the_dag_accepts(tmp_path: Path, name: str) -> None:
    one, two = (documents.index_name(tmp_path / parent / name) for parent in ("one", "two"))
    assert one != two
    assert documents.index_name(None).isalpha()
    for index in (one, two):
        assert index.isascii()
        assert index.isalnum()
        assert index[0].isalpha()
        assert index == index.lower()
        assert len(index) <= 30


def question(name: str, path: str | None, hybrid: int | None) -> dict[str, Any]:
    passage = {"path": path, "heading": "", "text": ""} if path else None
    return {"question": name, "passage": passage, "ranks": {"hybrid": hybrid}}


def test_the_shown_answers_are_right_and_of_different_documents() -> None:
    asked = [
        question("wrong", "a.md", None),
        question("second", "b.md", 2),
        question("one", "c.md", 1),
        question("the same document", "c.md", 1),
        question("two", "d.md", 1),
        question("nothing found", None, None),
    ]
    assert [one["question"] for one in documents.answers(asked)] == ["one", "two"]
