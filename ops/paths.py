"""Conversion of paths from and to user-facing text."""

import os
import unicodedata
from pathlib import Path


def user_path(text: str) -> Path:
    """Return the path with `~` expanded, which many shells do not do in `NAME=~/folder`."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the user does not exist
        return Path(text)


def printable(path: Path) -> str:
    """Return a path with control characters and undecodable bytes escaped."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) == "Cc" else character
        for character in text
    )
