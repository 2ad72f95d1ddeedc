"""Programs that tests put where others are looked for."""

import os
import sys
from pathlib import Path

import pytest

CLOUD = Path(__file__).with_name("stacks") / "cloud.py"


def write_program(file: Path, text: str) -> Path:
    """Write a program that can be run; return its file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def write_cloud_plugin(folder: Path, package: str) -> Path:
    """Write a provider of Pulumi whose cloud is a file; return the program."""
    text = f"#!/bin/sh\nexec {sys.executable} {CLOUD}\n"
    return write_program(folder / "bin" / f"pulumi-resource-{package}", text)


def put_on_path(monkeypatch: pytest.MonkeyPatch, file: Path, text: str) -> None:
    """Write a program that is found before any other of its name."""
    write_program(file, text)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
