"""Pages: self-contained HTML files, without external scripts, fonts or images.

A template extends `page.html.j2`, which gives all pages one look: it sets `title` and defines the block `content`. The
filter `picture` embeds a PNG file: `<img src="{{ curve | picture }}" alt="...">`.
"""

from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

CONTENT_TYPE = "text/html; charset=utf-8"
LOOK = Path(__file__).parent


def render(template: Path, **values: Any) -> bytes:
    """Return the page of a template; values are escaped."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, LOOK]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = _data_uri
    return environment.get_template(template.name).render(values).encode()


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
