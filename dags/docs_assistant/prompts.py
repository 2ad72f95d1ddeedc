"""Prompts: the text files in the folder `prompts`, with the placeholders {{ passages }} and {{ question }}."""

import re
from collections.abc import Sequence
from pathlib import Path

from docs_assistant.outputs import Source

FOLDER = Path(__file__).with_name("prompts")
# The prompt of answers that quote: MLflow shows what they are made of.
QUOTES = "{{ passages }}"
PLACEHOLDER = re.compile(r"{{\s*(passages|question)\s*}}")


def all_prompts() -> dict[str, str]:
    """Return the templates by their names."""
    return {file.stem: file.read_text() for file in sorted(FOLDER.glob("*.txt"))}


def fill(template: str, question: str, passages: Sequence[Source]) -> str:
    """Return the prompt of a question; a placeholder inside a document or a question is text."""
    numbered = "\n\n".join(
        f"[{number}] {passage['path']}, {passage['heading']}:\n{passage['text']}"
        for number, passage in enumerate(passages, 1)
    )
    values = {"passages": numbered, "question": question}
    return PLACEHOLDER.sub(lambda match: values[match[1]], template)
