"""The console of every command."""

import io
import sys
from collections.abc import Callable

from rich.console import Console

# Prints a line of progress.
Echo = Callable[[str], None]

WIDTH = 160  # of tables that are written to a file or a pipe


def new_console(*, soft_wrap: bool = False) -> Console:
    """Return a console that shows text as it is: no `[word]` is taken for markup, no `:word:` for an emoji.

    Paths, names and messages contain both. Code sets styles by `rich.text.Text`. A character that the terminal's
    encoding lacks is escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    width = None if sys.stdout.isatty() else WIDTH
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap, width=width)


def echo(line: str) -> None:
    """Print a line of progress."""
    new_console(soft_wrap=True).print(line)
