import io
import subprocess
import sys

import pytest
from rich.table import Table

from ops.console import new_console


def test_a_character_outside_the_encoding_is_escaped() -> None:
    program = r"from ops.console import new_console; new_console().print('caf\xe9 \u2713 \udce9')"
    environment = {"PYTHONIOENCODING": "latin-1"}
    shown = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True).stdout
    assert shown == b"caf\xe9 \\u2713 \\udce9\n"


@pytest.mark.parametrize("text", ["[ml]", "[/]", "[bold]x[/bold]", ":smile:", r"\[x]", "[link=file:///x]y[/link]"])
def test_a_console_shows_text_unchanged(text: str) -> None:
    console = new_console(soft_wrap=True)
    console.file = output = io.StringIO()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(text)
    console.print(text)
    console.print(table)
    console.print(f"{text}", style="bold")
    assert [line.rstrip() for line in output.getvalue().splitlines()] == [text] * 3
