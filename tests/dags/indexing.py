"""An index of documents, made by the steps of docs_index."""

from collections.abc import Sequence
from typing import Any

import yaml

from docs_index import steps
from ml_common.object_store import Bucket

PREFIX = "docs_index/documents/"


def index(data: Bucket, questions: Sequence[dict[str, Any]], **documents: str) -> str:
    """Store Markdown documents by name with their questions, index them, and return the version."""
    for name, text in documents.items():
        data.put(f"{PREFIX}{name}.md", text.encode())
    data.put(f"{PREFIX}questions.yaml", yaml.safe_dump(list(questions)).encode())
    chunked = [steps.chunk(keys, PREFIX) for keys in steps.fetch(PREFIX, None, None, "", [])]
    collected = steps.collect("docs", PREFIX, "english", chunked)
    embedded = steps.embed("docs", "english", collected)
    evaluated = steps.evaluate("docs", PREFIX, "english", collected)
    steps.swap("docs", PREFIX, "english", collected, embedded, evaluated, "")
    return collected["version"]
