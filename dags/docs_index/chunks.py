"""Chunks: the parts of documents that are embedded, found and cited."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from docs_index.formats import Section
from ml_common.content_keys import content_key

# With the headings, a chunk stays below the 256 tokens that the embedding model reads.
MAX_TOKENS = 200
# The last one applies to a word that is longer than a chunk.
SEPARATORS = ("\n\n", "\n", " ", "")


@dataclass(frozen=True)
class Chunk:
    """A part of one section.

    Attributes:
        id: Identifies the chunk in all versions of an index: the same place and text give the same ID.
        path: The path of the document below the prefix of its source.
        heading: The headings above the text, joined.
        position: The number of the chunk in its document.
        text: At most MAX_TOKENS tokens.
        hash: Identifies what is embedded: equal texts under equal headings have one embedding.
    """

    id: str
    path: str
    heading: str
    position: int
    text: str
    hash: str

    @property
    def embedded(self) -> str:
        """The text that is embedded: the headings say what the text is about."""
        return embedded(self.heading, self.text)


def chunks(path: str, sections: Iterable[Section], model: str, count: Callable[[str], int]) -> Iterator[Chunk]:
    """Yield the chunks of a document.

    Args:
        path: The path of the document.
        sections: Its sections.
        model: The name of the embedding model.
        count: Counts the tokens of a text.
    """
    seen: Counter[str] = Counter()
    position = 0
    for section in sections:
        heading = " > ".join(section.headings or (PurePosixPath(path).stem,))
        for text in split(section.text, count):
            digest = content_key({"model": model, "embedded": embedded(heading, text)})
            chunk_id = content_key({"path": path, "hash": digest, "occurrence": seen[digest]})
            yield Chunk(chunk_id, path, heading, position, text, digest)
            seen[digest] += 1
            position += 1


def embedded(heading: str, text: str) -> str:
    """Return what is embedded of a chunk."""
    return f"{heading}\n{text}"


def split(text: str, count: Callable[[str], int], separators: tuple[str, ...] = SEPARATORS) -> Iterator[str]:
    """Split a text into parts of at most MAX_TOKENS tokens: between paragraphs, else between lines, else words."""
    if count(text) <= MAX_TOKENS:
        yield text
        return
    separator, *lower = separators
    parts = text.split(separator) if separator else list(text)
    packed: list[str] = []
    size = 0
    for part in parts:
        tokens = count(part)
        if size + tokens > MAX_TOKENS and packed:
            yield separator.join(packed)
            packed, size = [], 0
        if tokens > MAX_TOKENS:
            yield from split(part, count, tuple(lower))
        elif part.strip():
            packed.append(part)
            size += tokens
    if packed:
        yield separator.join(packed)
