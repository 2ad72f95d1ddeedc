"""The formats of documents: each reader turns the content of a file into sections, which have a heading and a text."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pypdf
from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from markdown_it import MarkdownIt

MAX_BYTES = 20 * 2**20
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# Elements of a web page that are not part of its text.
FURNITURE = ("head", "script", "style", "template", "noscript", "svg", "nav", "header", "footer", "aside", "form")
BLOCKS = (
    *("p", "div", "li", "tr", "table", "ul", "ol", "dl", "dt", "dd"),
    *("pre", "blockquote", "section", "article", "br"),
)


class UnreadableFileError(Exception):
    """The file has no text that can be read; the message says why."""


@dataclass(frozen=True)
class Section:
    """A part of a document.

    Attributes:
        headings: The headings above the text, the highest first.
        text: The text, in which blank lines separate paragraphs.
    """

    headings: tuple[str, ...]
    text: str


def is_document(path: str) -> bool:
    """Return whether the name of a file ends as one of the formats does."""
    return _suffix(path) in READERS


def read(path: str, content: bytes) -> list[Section]:
    """Return the sections of a document that have a text.

    Raises:
        UnreadableFileError: The file is damaged, encrypted, too large, or has no text.
    """
    if len(content) > MAX_BYTES:
        raise UnreadableFileError(f"it has more than {MAX_BYTES // 2**20} MiB")
    sections = [section for section in READERS[_suffix(path)](content) if section.text]
    if not sections:
        raise UnreadableFileError("it has no text")
    return sections


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _markdown(content: bytes) -> Iterator[Section]:
    text = _decode(content)
    lines = text.splitlines()
    tokens = MarkdownIt("commonmark").parse(text)
    found = [
        (int(token.tag[1]), tokens[number + 1].content, token.map)
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]
    outline = Outline()
    begin = 0
    for level, heading, (first, last) in found:
        yield Section(outline.headings, "\n".join(lines[begin:first]).strip())
        outline.enter(level, heading)
        begin = last
    yield Section(outline.headings, "\n".join(lines[begin:]).strip())


def _html(content: bytes) -> Iterator[Section]:
    page = BeautifulSoup(content, "lxml")
    for furniture in page(FURNITURE):
        furniture.decompose()
    outline = Outline()
    parts: list[str] = []
    for element in page.descendants:
        if isinstance(element, Tag) and element.name in HEADINGS:
            yield Section(outline.headings, _clean("".join(parts)))
            parts = []
            outline.enter(int(element.name[1]), " ".join(element.get_text(" ").split()))
        elif isinstance(element, Tag) and element.name in BLOCKS:
            parts.append("\n\n" if element.name == "p" else "\n")
        # Comments are of a subclass.
        elif type(element) is NavigableString and not element.find_parent(HEADINGS):
            parts.append(element if element.find_parent("pre") else re.sub(r"\s+", " ", element))
    yield Section(outline.headings, _clean("".join(parts)))


def _pdf(content: bytes) -> Iterator[Section]:
    try:
        pages = pypdf.PdfReader(io.BytesIO(content)).pages
        texts = [page.extract_text() for page in pages]
    except pypdf.errors.FileNotDecryptedError as error:
        raise UnreadableFileError("it is encrypted") from error
    except Exception as error:  # pypdf raises errors of any kind for a damaged file
        raise UnreadableFileError(f"it is not a readable PDF ({type(error).__name__})") from error
    for number, text in enumerate(texts, 1):
        yield Section((f"page {number}",), _clean(text))


def _text(content: bytes) -> Iterator[Section]:
    yield Section((), _decode(content).strip())


READERS: dict[str, Callable[[bytes], Iterator[Section]]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".txt": _text,
}


class Outline:
    """The headings above the current place in a document."""

    def __init__(self) -> None:
        self._entered: list[tuple[int, str]] = []

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings, the highest first."""
        return tuple(heading for _, heading in self._entered)

    def enter(self, level: int, heading: str) -> None:
        """Begin a section, which ends those of the same and of lower levels."""
        self._entered = [(above, text) for above, text in self._entered if above < level]
        self._entered.append((level, heading))


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError("it is not UTF-8") from error
    if "\0" in text:  # which PostgreSQL does not store
        raise UnreadableFileError("it is not text: it contains zero bytes")
    return text


def _clean(text: str) -> str:
    """Strip each line, and keep one blank line between paragraphs."""
    lines = [" ".join(line.split()) for line in text.replace("\0", "").splitlines()]
    kept = [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]
    return "\n".join(kept).strip()
