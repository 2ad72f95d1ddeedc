import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import makefile

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def page_name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_make_command_on_a_page_exists_with_its_variables(page: Path) -> None:
    assert makefile.mistakes("\n".join(re.findall(r"`+[^`]+`+", page.read_text()))) == []


def test_commands_and_variables_that_do_not_exist_are_found() -> None:
    text = '`make promote FROM=dev TO=staging DRY_RUN=1`, `make deploy FROM=dev`, `make repromote TO="x y"`'
    assert makefile.mistakes(text) == ["make deploy FROM=", "make repromote"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_linked_file_and_heading_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("http"):
            name, _, heading = link.partition("#")
            target = (page.parent / name) if name else page
            assert target.exists(), link
            assert not heading or heading in headings(target), link


def headings(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    for target in makefile.targets():
        assert f"make {target} " in shown


def test_no_module_of_the_program_shadows_the_standard_library() -> None:
    """Pulumi runs the program in the folder `infra`, which Python can search first."""
    names = {path.stem for path in (REPOSITORY / "infra").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & sys.stdlib_module_names <= {"__init__", "__main__"}
