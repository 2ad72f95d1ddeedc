"""Question sets: YAML files among the documents, whose questions have known answers."""

from dataclasses import dataclass, fields, replace

import yaml

from ml_common.errors import PermanentError

FILE = "questions.yaml"
REMEDY = 'give a list of questions such as {question: "Who may deploy?", file: roles.md, contains: "only the owner"}'


@dataclass(frozen=True)
class Question:
    """A question, and what makes a chunk an answer.

    Attributes:
        question: The question.
        file: The path of the document that answers it.
        contains: Words that the answering chunk contains, whatever their case and the white space between them.
    """

    question: str
    file: str
    contains: str

    def answered_by(self, path: str, text: str) -> bool:
        """Return whether a chunk answers the question."""
        return path == self.file and _plain(self.contains) in _plain(text)


def parse(content: bytes, name: str, folder: str) -> list[Question]:
    """Return the questions of a question set.

    Args:
        content: The content of the file.
        name: Its name in messages.
        folder: Its folder below the prefix of the documents, which `file` is relative to: empty, or ending in "/".

    Raises:
        PermanentError: It is no list of questions.
    """
    try:
        entries = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _refused(name, _reason(error)) from error
    if not isinstance(entries, list) or not entries:
        raise _refused(name, "it is no list")
    names = [field.name for field in fields(Question)]
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or sorted(entry) != sorted(names):
            raise _refused(name, f"entry {number} needs {', '.join(names)}")
        if not all(isinstance(value, str) and value.strip() for value in entry.values()):
            raise _refused(name, f"a value of entry {number} is no text")
    return [replace(Question(**entry), file=folder + entry["file"]) for entry in entries]


def _refused(name: str, reason: str) -> PermanentError:
    return PermanentError(f"{name} is no question set ({reason}): {REMEDY}.")


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
