"""Question sets: YAML files among the documents, whose questions have known answers."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ml_common.errors import PermanentError
from ml_common.object_store import data_bucket

FILE = "questions.yaml"
REMEDY = 'give a list of questions such as {question: "Who may deploy?", file: roles.md, contains: "only the owner"}'
FORMS = ({"question", "file", "contains"}, {"question", "answerable"})


@dataclass(frozen=True)
class Question:
    """A question, and what makes a chunk an answer.

    Attributes:
        question: The question.
        file: The path of the document that answers it; None if the documents do not.
        contains: Words that the answering chunk contains, whatever their case and the white space between them.
    """

    question: str
    file: str | None
    contains: str

    @property
    def answerable(self) -> bool:
        """Whether the documents contain the answer."""
        return self.file is not None

    def answered_by(self, path: str, text: str) -> bool:
        """Return whether a chunk answers the question."""
        return path == self.file and _plain(self.contains) in _plain(text)


def read(prefix: str) -> list[Question]:
    """Return the questions of all question sets under `prefix` of the data bucket.

    Raises:
        PermanentError: There is not a question set, one is wrong, or the documents answer no question.
    """
    bucket = data_bucket()
    keys = [found.key for found in bucket.list(prefix) if PurePosixPath(found.key).name == FILE]
    if not keys:
        raise PermanentError(f"{bucket.uri(prefix + FILE)} is missing, so the index cannot be evaluated: {REMEDY}.")
    found = [
        question
        for key in keys
        for question in parse(bucket.get(key), bucket.uri(key), key.removeprefix(prefix).removesuffix(FILE))
    ]
    if not any(question.answerable for question in found):
        raise PermanentError(f"{bucket.uri(keys[0])} has no question that the documents answer: {REMEDY}.")
    return found


def parse(content: bytes, name: str, folder: str) -> list[Question]:
    """Return the questions of a question set.

    Args:
        content: The content of the file.
        name: Its name in messages.
        folder: Its folder below the prefix of the documents, which `file` is relative to: empty, or ending in "/".

    Raises:
        PermanentError: It is not a list of questions.
    """
    try:
        entries = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _refused(name, _reason(error)) from error
    if not isinstance(entries, list) or not entries:
        raise _refused(name, "it is not a list")
    return [_question(entry, f"entry {number}", name, folder) for number, entry in enumerate(entries, 1)]


def _question(entry: Any, which: str, name: str, folder: str) -> Question:
    if not isinstance(entry, dict) or set(entry) not in FORMS:
        raise _refused(name, f"{which} needs question, file and contains, or question and answerable: false")
    if entry.get("answerable", False) is not False:
        raise _refused(name, f"answerable of {which} is not false")
    texts = {key: value for key, value in entry.items() if key != "answerable"}
    if not all(isinstance(value, str) and value.strip() for value in texts.values()):
        raise _refused(name, f"a value of {which} is not text")
    if "answerable" in entry:
        return Question(entry["question"], None, "")
    return Question(entry["question"], folder + entry["file"], entry["contains"])


def _refused(name: str, reason: str) -> PermanentError:
    return PermanentError(f"{name} is not a question set ({reason}): {REMEDY}.")


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
