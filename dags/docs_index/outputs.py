"""What the steps pass each other."""

from typing import TypedDict


class File(TypedDict):
    """A document that was read: the key of its chunks in the artifacts bucket, and their number."""

    path: str
    key: str
    chunks: int


class Rejected(TypedDict):
    """A file that cannot be read, and why."""

    path: str
    reason: str


class Chunked(TypedDict):
    """What became of a batch of files."""

    files: list[File]
    rejected: list[Rejected]


class Collected(TypedDict):
    """All documents of a run: the version of the index that they make, and the key of the list of files."""

    version: str
    manifest: str
    files: int
    chunks: int


class Embedded(TypedDict):
    """How the chunks of a version differ from those of the live one; `embedded` counts calculated vectors."""

    embedded: int
    added: int
    kept: int
    deleted: int
