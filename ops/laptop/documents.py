"""The demo of documents: index those of this repository, or of a folder, and show answers with their sources."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.airflow_api import AirflowApi
from ops.laptop import object_store, uploads
from ops.laptop.home import write_atomically
from ops.laptop.laptop import Laptop
from ops.laptop.uploads import Destination, Upload
from ops.paths import printable

DAG, ASSISTANT = "docs_index", "docs_assistant"
FOLDER = f"{DAG}/folders/"
QUARANTINE = f"{DAG}/quarantine/"
QUESTIONS = "questions.yaml"
# The pattern of the Param `index` allows 30 characters.
NAME_CHARACTERS = 21
SHOWN_ANSWERS = 3


def of_repository() -> list[Upload]:
    """Return this repository's documentation and its question set."""
    docs = REPOSITORY / "docs"
    files = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(docs.rglob("*.md")), docs / QUESTIONS]
    return [uploads.of_file(file, file.relative_to(REPOSITORY).as_posix()) for file in files]


def in_folder(path: Path) -> list[Upload]:
    """Return the files in a folder.

    Raises:
        OperationError: The folder cannot be read, is empty, or has no question set.
    """
    try:
        list(path.iterdir())
    except OSError as error:
        raise OperationError(
            f"DOCUMENTS={printable(path)} is not a readable folder ({error.strerror}): set a folder of documents"
        ) from error
    found = uploads.in_folders(path, [path], destination(path))
    if not any(file.name.rpartition("/")[2] == QUESTIONS for file in found):
        raise OperationError(
            f"DOCUMENTS={printable(path)} has no {QUESTIONS}, so the index cannot be evaluated: write one with a list "
            'of questions such as {question: "Who may deploy?", file: roles.md, contains: "only the owner"}'
        )
    return found


def destination(path: Path | None) -> Destination:
    """Return where the documents of a folder are stored, or those of this repository."""
    name = uploads.folder_name(path) if path else "repository"
    return Destination(object_store.BUCKETS["data"], f"{FOLDER}{name}/", QUARANTINE)


def index_name(path: Path | None) -> str:
    """Return the name of the index of a folder, or of this repository."""
    if path is None:
        return "repository"
    letters = re.sub("[^a-z0-9]", "", path.resolve().name.lower()).lstrip("0123456789") or "folder"
    return f"{letters[:NAME_CHARACTERS]}{uploads.digest_of(path)}"


def show(console: Console, machine: Laptop, api: AirflowApi, run_id: str, index: str, address: str | None) -> None:
    """Print some answers, how well the index answers its questions, and its page, which is saved in `results`.

    Args:
        console: Where to print.
        machine: The laptop.
        api: Airflow's API.
        run_id: The run of the index.
        index: The name of the index.
        address: Where people can ask questions; None if they cannot.
    """
    evaluated = json.loads(_read(machine, api.result(DAG, run_id, "evaluate")))["new"]
    page = machine.home.results / f"{index}.html"
    write_atomically(page, _read(machine, f"{DAG}/{index}/index.html").decode())
    for answered in answers(evaluated["questions"]):
        passage = answered["passage"]
        console.print(Text.assemble("\n", (answered["question"], "bold")))
        console.print(Text(f"answered by {passage['path']}, {passage['heading']}:", "dim"))
        is_markdown = passage["path"].lower().endswith((".md", ".markdown"))
        console.print(Markdown(passage["text"]) if is_markdown else Text(passage["text"]))
    console.print()
    console.print(_table(evaluated["measured"]))
    console.print(f"\npage         {page}")
    if address:
        console.print(f"ask          {address}")


def answers(questions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return a few questions whose answer hybrid search finds first, each in another document."""
    by_document: dict[str, Mapping[str, Any]] = {}
    for one in questions:
        if one["ranks"]["hybrid"] == 1:
            by_document.setdefault(one["passage"]["path"], one)
    return list(by_document.values())[:SHOWN_ANSWERS]


def _table(measured: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("search")
    for column in ("hit@4", "MRR"):
        table.add_column(column, justify="right")
    for method, figures in measured.items():
        table.add_row(method, f"{figures['hit_rate']:.3f}", f"{figures['mrr']:.3f}")
    return table


def _read(machine: Laptop, key: str) -> bytes:
    return bytes(machine.s3.get_object(Bucket=object_store.BUCKETS["artifacts"], Key=key)["Body"].read())
