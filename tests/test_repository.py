import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import makefile

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
REQUIREMENTS = sorted((REPOSITORY / "requirements").glob("*.txt"))


def page_name(page: Path) -> str:
    return page.name


def pins(requirements: Path) -> set[str]:
    return {line.partition(" ;")[0] for line in requirements.read_text().splitlines()}


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


@pytest.mark.parametrize("requirements", REQUIREMENTS, ids=page_name)
def test_every_requirement_is_pinned_and_no_address_is_named(requirements: Path) -> None:
    for line in requirements.read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^\s;]+( ; .+)?", line), line


@pytest.mark.parametrize("requirements", [file for file in REQUIREMENTS if file.name != "mlflow.txt"], ids=page_name)
def test_the_environments_that_share_code_share_versions(requirements: Path) -> None:
    assert pins(requirements) <= pins(REPOSITORY / "requirements" / "dev.txt")


def test_the_mlflow_client_has_the_version_of_its_server() -> None:
    def version(name: str, file: str) -> str:
        found = re.search(rf"^{name}==(\S+)", (REPOSITORY / "requirements" / file).read_text(), re.MULTILINE)
        assert found, f"{name} in {file}"
        return found[1]

    assert version("mlflow-skinny", "ml.txt") == version("mlflow", "mlflow.txt")


def test_an_environment_is_refused_by_a_python_that_is_too_old(tmp_path: Path) -> None:
    program = (REPOSITORY / "infra" / "environments.py").read_text().replace("(3, 11), (3, 14)", "(3, 98), (3, 99)")
    (tmp_path / "environments.py").write_text(program)
    command = [sys.executable, str(tmp_path / "environments.py"), "create", "main"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: Python 3.98 to 3.99 is needed and python3 is 3.")


def test_no_module_of_the_program_hides_one_of_the_standard_library() -> None:
    """Pulumi runs the program in the folder `infra`, which Python then may search first."""
    names = {path.stem for path in (REPOSITORY / "infra").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & sys.stdlib_module_names <= {"__init__", "__main__"}
