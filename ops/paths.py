"""Paths as a person writes and reads them."""

import os
import unicodedata
from pathlib import Path


def user_path(text: str) -> Path:
    """Return the path with `~` replaced by the home folder, which many shells leave as it is in `NAME=~/folder`."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def printable(path: Path) -> str:
    """Return a path with everything escaped that a terminal cannot show or that would control it."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) == "Cc" else character
        for character in text
    )
