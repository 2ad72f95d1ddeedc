"""Programs that tests put where others are looked for."""

import os
from pathlib import Path

import pytest


def write_program(file: Path, text: str) -> Path:
    """Write a program that can be run; return its file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def put_on_path(monkeypatch: pytest.MonkeyPatch, file: Path, text: str) -> None:
    """Write a program that is found before any other of its name."""
    write_program(file, text)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
