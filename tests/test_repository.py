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
def test_every_make_command_of_a_page_exists_with_its_variables(page: Path) -> None:
    assert makefile.mistakes("\n".join(re.findall(r"`+[^`]+`+", page.read_text()))) == []


def test_a_command_that_no_longer_exists_would_be_noticed() -> None:
    text = '`make promote FROM=dev TO=staging DRY_RUN=1`, `make deploy FROM=dev`, `make repromote TO="x y"`'
    assert makefile.mistakes(text) == ["make deploy FROM=", "make repromote"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_file_and_heading_that_a_page_links_to_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("http"):
            name, _, heading = link.partition("#")
            target = (page.parent / name) if name else page
            assert target.exists(), link
            assert not heading or heading in headings(target), link


def headings(page: Path) -> set[str]:
    """Return the headings of a page as links name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    for target in makefile.targets():
        assert f"make {target} " in shown


def test_no_module_of_the_program_hides_one_of_the_standard_library() -> None:
    """Pulumi runs the program in the folder `infra`, which Python then may search first."""
    names = {path.stem for path in (REPOSITORY / "infra").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & sys.stdlib_module_names <= {"__init__", "__main__"}
