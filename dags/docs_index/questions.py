"""Question sets: YAML files among the documents, whose questions have known answers."""

from dataclasses import dataclass, replace

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
        found = [Question(**entry) for entry in entries]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise PermanentError(f"{name} is no question set ({str(error).splitlines()[0]}): {REMEDY}.") from error
    if not found or not all(isinstance(value, str) for one in found for value in vars(one).values()):
        raise PermanentError(f"{name} is no question set (a value is missing or no text): {REMEDY}.")
    return [replace(one, file=folder + one.file) for one in found]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
