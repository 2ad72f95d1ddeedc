"""Keys for outputs: the same inputs and code always give the same key."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def content_key(inputs: dict[str, Any]) -> str:
    """Return 16 hex digits for a set of JSON values."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def code_version(files: Iterable[Path]) -> str:
    """Return 16 hex digits over the source of `files`."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
