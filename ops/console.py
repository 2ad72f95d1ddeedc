"""The console output of the commands."""

import io
import sys
from collections.abc import Callable

from rich.console import Console

# Prints a line of progress.
Echo = Callable[[str], None]

WIDTH = 160  # of tables in a file or a pipe


def new_console(*, soft_wrap: bool = False) -> Console:
    """Return a console that prints text unchanged: `[word]` is not markup, and `:word:` is not an emoji.

    Paths, names and messages may contain both. Use `rich.text.Text` for styles. Characters that the terminal's encoding
    does not support are escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    width = None if sys.stdout.isatty() else WIDTH
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap, width=width)


def echo(line: str) -> None:
    """Print a line of progress."""
    new_console(soft_wrap=True).print(line)
