"""SQL files with Jinja placeholders for names of schemas, tables and columns; values are parameters of the query."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(file: Path, **names: Any) -> str:
    """Return the SQL of a template."""
    environment = Environment(  # noqa: S701 - SQL is not HTML
        loader=FileSystemLoader(file.parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(file.name).render(names)
