"""Variables that the Makefile passes to the programs."""

import re
import sys
from pathlib import Path

import pytest

from ops.cli.app import COMMANDS, INTERNAL, loaded, main
from tests.makefile import REPOSITORY, Call, Sandbox, parsed, targets

READ = [(target, variable) for target, variables in targets().items() for variable in sorted(variables - {"PYTHON"})]
FLAGS = {"YES", "REFRESH", "DRY_RUN", "ISSUE", "PREVIEW", "WITHOUT_SECRETS", "REMOVE", "NEW_PASSWORD"}
CHOICES = {
    ("up", "DEMO"): "flights",
    ("promote", "CONFIRM"): "migration",
    ("rollback", "CONFIRM"): "database",
    ("gate", "GATE"): "tests",
    ("user", "ROLE"): "op",
}
NUMBERS = {"HOURS": "5"}
# Variables that programs read from the environment for every target.
ELSEWHERE = ("LAPTOP_HOME", "BUILDER", "IMAGE_LOAD", "IMAGE_BUILD_ARGS", "BASE_IMAGE_ML", "KUBECONFIG")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def hostile(file: str) -> str:
    """Return text that runs commands if make or a shell expands it."""
    return (
        f"""$(shell touch {file})`touch {file}`$(touch {file})$(HOME)$HOME ${{HOME}} '";touch {file};\n#\\ $$ & | é """
    )


@pytest.mark.parametrize("source", ["command line", "environment"])
@pytest.mark.parametrize(("target", "variable"), READ)
def test_a_variable_reaches_its_program_byte_for_byte(
    sandbox: Sandbox, target: str, variable: str, source: str
) -> None:
    value = hostile("touched")
    if source == "environment":
        made = sandbox.make(target, PYTHON=str(sandbox.python), **{variable: value})
    else:
        made = sandbox.make(target, f"{variable}={value}", PYTHON=str(sandbox.python))
    [call] = made.calls
    assert call.environment[variable] == value
    assert not any("touch" in word for word in call.words)
    assert not (sandbox.folder / "touched").exists()


@pytest.mark.parametrize(
    ("target", "variable"), [pair for pair in READ if pair[0] in COMMANDS and pair[1] != "LAPTOP_HOME"]
)
def test_a_command_reads_a_variable_unchanged(target: str, variable: str, tmp_path: Path) -> None:
    command = loaded(target)
    [parameter] = [each for each in command.params if getattr(each, "envvar", None) == variable]
    value = "1" if variable in FLAGS else CHOICES.get((target, variable)) or NUMBERS.get(variable) or hostile("touched")
    environment = {each.envvar: "x" for each in command.params if each.required} | {variable: value}
    if target == "gate":
        environment = {"GATE": "tests"} | {variable: value}
    found = parsed(Call(["python", "-m", "ops", target], environment))[parameter.name]
    assert str(found) == {True: "True"}.get(variable in FLAGS, "5.0" if variable in NUMBERS else value)


@pytest.mark.parametrize("variable", ELSEWHERE)
def test_a_variable_that_only_a_program_reads_reaches_it_byte_for_byte(sandbox: Sandbox, variable: str) -> None:
    value = hostile("touched")
    [call] = sandbox.make("images", "STACK=local", f"{variable}={value}").calls
    assert call.environment[variable] == value
    assert not (sandbox.folder / "touched").exists()


@pytest.mark.parametrize("name", ["run", "ready", "ops", "isolated", "as_it_is"])
def test_internal_variables_of_the_makefile_cannot_be_overridden(sandbox: Sandbox, name: str) -> None:
    made = sandbox.make("preview", "STACK=dev", f"{name}={hostile('touched')}")
    [call] = made.calls
    assert call.arguments == ["preview"]
    assert not (sandbox.folder / "touched").exists()


@pytest.mark.parametrize("target", ["bench-local", "setup"])
def test_the_path_of_the_first_python_is_one_word_that_no_shell_expands(sandbox: Sandbox, target: str) -> None:
    (sandbox.folder / ".venv/ready").unlink()
    made = sandbox.make(target, f"PYTHON={hostile('touched')}")
    assert made.code != 0
    assert not made.calls
    assert not (sandbox.folder / "touched").exists()
    named = sandbox.make(target, f"PYTHON={sandbox.python}")
    assert named.code == 0, named.error
    assert named.calls


@pytest.mark.parametrize(
    ("arguments", "is_created"), [(("up",), False), (("up", "DEMO=flights"), True), (("run",), True)]
)
def test_the_environment_of_soda_is_created_only_where_the_dags_of_flights_run(
    sandbox: Sandbox, arguments: tuple[str, ...], is_created: bool
) -> None:
    (sandbox.folder / ".venv-soda/ready").unlink()
    made = sandbox.make(*arguments, PYTHON=str(sandbox.python))
    assert made.code == 0, made.error
    assert (["create", "soda"] in [call.arguments for call in made.calls]) is is_created


def test_a_tilde_in_the_path_of_the_first_python_is_the_home_folder(sandbox: Sandbox) -> None:
    (sandbox.folder / ".venv/ready").unlink()
    made = sandbox.make("bench-local", f"PYTHON=~/{sandbox.python.name}", HOME=str(sandbox.python.parent))
    assert made.code == 0, made.error
    assert made.calls


@pytest.mark.parametrize("target", sorted(targets()))
def test_no_recipe_reads_an_undefined_variable(sandbox: Sandbox, target: str) -> None:
    made = sandbox.make("--warn-undefined-variables", target, PYTHON=str(sandbox.python))
    assert "undefined variable" not in made.error


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("preview", "error: STACK is missing: run `make preview STACK=dev`"),
        ("promote", "error: FROM is missing: run `make promote FROM=dev TO=staging`"),
        ("gate", "error: GATE is missing: run `make gate GATE=tests`"),
        ("plan-comment", "error: AGAINST is missing: run `make plan-comment AGAINST=origin/dev`"),
        ("stack", "error: NAME is missing: run `make stack NAME=qa`"),
        ("preview-env", "error: BRANCH is missing: run `make preview-env BRANCH=feature/x`"),
        ("preview-env-down", "error: BRANCH is missing: run `make preview-env-down BRANCH=feature/x`"),
    ],
)
@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_a_missing_or_empty_required_variable_is_an_error(
    monkeypatch: pytest.MonkeyPatch, target: str, sentence: str, empty: bool
) -> None:
    for variable in targets()[target]:
        monkeypatch.setenv(variable, "") if empty else monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["ops", target])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == sentence


def test_an_empty_variable_counts_as_unset() -> None:
    found = parsed(Call(["python", "-m", "ops", "deploy"], {"STACK": "dev", "YES": "", "FORCE": "", "REFRESH": ""}))
    assert found == {"stack": "dev", "yes": False, "force": None, "refresh": False}


def test_a_value_that_looks_like_an_option_is_not_an_option() -> None:
    found = parsed(Call(["python", "-m", "ops", "destroy"], {"STACK": "--yes", "CONFIRM": "--yes"}))
    assert found == {"stack": "--yes", "yes": False, "confirm": "--yes"}


def test_the_default_stack_of_a_preview_environment_is_dev() -> None:
    def stack(target: str, **environment: str) -> str:
        return str(parsed(Call(["python", "-m", "ops", target], environment))["stack"])

    assert stack("preview-env", BRANCH="feature/x") == "dev"
    assert stack("preview-env", BRANCH="feature/x", STACK="local") == "local"
    assert stack("preview-env-gc") == "dev"


@pytest.mark.parametrize("target", [name for name in targets() if name in COMMANDS])
def test_make_help_and_the_help_of_ops_agree(target: str) -> None:
    [text] = re.findall(rf"^{target}:.*## (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert re.sub(r" \(.*\)$", "", text) == COMMANDS[target].summary


def test_every_public_command_has_a_target() -> None:
    assert {name for name, entry in COMMANDS.items() if entry.panel != INTERNAL} <= targets().keys()


def test_the_headings_of_make_help_and_of_the_help_of_ops_agree() -> None:
    headings = re.findall(r"^##@ (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert [*dict.fromkeys(entry.panel for entry in COMMANDS.values())][:-1] == headings[:-1]


@pytest.mark.parametrize("target", sorted(targets().keys() - {"help"}))
def test_every_python_ignores_its_own_environment_variables(sandbox: Sandbox, target: str) -> None:
    (sandbox.folder / ".venv/ready").unlink()
    made = sandbox.make(target, PYTHON=str(sandbox.python))
    assert made.code == 0, made.error
    assert made.calls
    for call in made.calls:
        if call.words[0] == "python":
            assert call.words[1:3] == ["-E", "-s"] or call.words[1] == "-I"
