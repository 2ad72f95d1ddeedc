"""What the Makefile hands to the programs."""

from pathlib import Path

import pytest

from tests.makefile import Sandbox, targets

READ = [(target, variable) for target, variables in targets().items() for variable in sorted(variables)]
FLAGS = {
    "YES": "--yes",
    "REFRESH": "--refresh",
    "DRY_RUN": "--dry-run",
    "ISSUE": "--issue",
    "UPGRADE": "--upgrade",
    "PREVIEW": "--preview",
    "WITHOUT_SECRETS": "--without-secrets",
}
# Variables that programs read from their environment, whatever the target.
ELSEWHERE = ("LAPTOP_HOME", "BUILDER", "IMAGE_LOAD", "IMAGE_BUILD_ARGS", "BASE_IMAGE_ML", "KUBECONFIG")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def hostile(file: str) -> str:
    """Text that make or a shell would act upon, if one of them read it."""
    return (
        f"""$(shell touch {file})`touch {file}`$(touch {file})$(HOME)$HOME ${{HOME}} '";touch {file};\n#\\ $$ & | é """
    )


def others(target: str, variable: str) -> list[str]:
    """The variables without which the target refuses to run."""
    return [f"{name}=x" for name in targets()[target] - {variable, "PYTHON"} if name not in FLAGS]


@pytest.mark.parametrize("way", ["command line", "environment"])
@pytest.mark.parametrize(("target", "variable"), [pair for pair in READ if pair[1] != "PYTHON"])
def test_a_variable_reaches_its_program_byte_for_byte(sandbox: Sandbox, target: str, variable: str, way: str) -> None:
    value = hostile("touched")
    if way == "environment":
        made = sandbox.make(target, *others(target, variable), PYTHON=str(sandbox.python), **{variable: value})
    else:
        made = sandbox.make(target, *others(target, variable), f"{variable}={value}", PYTHON=str(sandbox.python))
    [call] = made.calls
    assert call.environment[variable] == value
    if variable in FLAGS:
        assert FLAGS[variable] in call.arguments
    else:
        assert [word for word in call.arguments if word.removesuffix(value) in ("", f"--{option(target, variable)}=")]
    assert not (sandbox.folder / "touched").exists()


def option(target: str, variable: str) -> str:
    special = {("dags-key", "KEY"): "file", ("dags-key", "USER_NAME"): "user"}
    return special.get((target, variable), variable.lower().replace("_", "-"))


@pytest.mark.parametrize("variable", ELSEWHERE)
def test_a_variable_that_only_a_program_reads_reaches_it_byte_for_byte(sandbox: Sandbox, variable: str) -> None:
    value = hostile("touched")
    [call] = sandbox.make("images", "STACK=local", f"{variable}={value}").calls
    assert call.environment[variable] == value
    assert not (sandbox.folder / "touched").exists()


@pytest.mark.parametrize("name", ["run", "ready", "option", "named_stack", "isolated", "as_it_is"])
def test_what_the_makefile_sets_for_itself_cannot_be_replaced(sandbox: Sandbox, name: str) -> None:
    made = sandbox.make("preview", "STACK=dev", f"{name}={hostile('touched')}")
    [call] = made.calls
    assert call.arguments == ["preview", "--", "dev"]
    assert not (sandbox.folder / "touched").exists()


@pytest.mark.parametrize("target", ["bench-local", "setup"])
def test_the_name_of_the_first_python_is_one_word_that_no_shell_reads(sandbox: Sandbox, target: str) -> None:
    (sandbox.folder / ".venv/ready").unlink()
    made = sandbox.make(target, f"PYTHON={hostile('touched')}")
    assert made.code != 0
    assert not made.calls
    assert not (sandbox.folder / "touched").exists()
    named = sandbox.make(target, f"PYTHON={sandbox.python}")
    assert named.code == 0, named.error
    assert named.calls


def test_a_tilde_in_the_name_of_the_first_python_is_the_home_folder(sandbox: Sandbox) -> None:
    (sandbox.folder / ".venv/ready").unlink()
    made = sandbox.make("bench-local", f"PYTHON=~/{sandbox.python.name}", HOME=str(sandbox.python.parent))
    assert made.code == 0, made.error
    assert made.calls


@pytest.mark.parametrize("target", sorted(targets()))
def test_no_recipe_reads_a_variable_that_is_not_defined(sandbox: Sandbox, target: str) -> None:
    made = sandbox.make("--warn-undefined-variables", target, *others(target, ""), PYTHON=str(sandbox.python))
    assert "undefined variable" not in made.error


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("preview", "name the stack: make preview STACK=dev"),
        ("promote", "name the stacks: make promote FROM=dev TO=staging"),
        ("gate", "name the gate: make gate GATE=tests"),
        ("plan-comment", "name a git ref: make plan-comment AGAINST=origin/dev"),
        ("stack", "name the new stack: make stack NAME=qa"),
        ("preview-env", "name the branch: make preview-env BRANCH=feature/x"),
        ("preview-env-down", "name the branch: make preview-env-down BRANCH=feature/x"),
    ],
)
def test_a_variable_that_is_missing_or_empty_is_asked_for(sandbox: Sandbox, target: str, sentence: str) -> None:
    for given in ([], [f"{variable}=" for variable in targets()[target]]):
        refused = sandbox.make(target, *given)
        assert refused.code != 0
        assert sentence in refused.error
        assert not refused.calls


def test_a_variable_that_is_empty_is_none(sandbox: Sandbox) -> None:
    [call] = sandbox.make("deploy", "STACK=dev", "YES=", "FORCE=", REFRESH="").calls
    assert call.arguments == ["deploy", "--", "dev"]


def test_a_value_that_looks_like_an_option_is_none(sandbox: Sandbox) -> None:
    [call] = sandbox.make("destroy", "STACK=--yes", "CONFIRM=--yes").calls
    assert call.arguments == ["destroy", "--confirm=--yes", "--", "--yes"]


def test_the_stack_of_a_preview_environment_is_dev_unless_another_is_named(sandbox: Sandbox) -> None:
    def arguments(*words: str) -> list[str]:
        [call] = sandbox.make(*words).calls
        return call.arguments

    assert arguments("preview-env", "BRANCH=feature/x") == ["up", "--", "dev", "feature/x"]
    named = ["up", "--hours=5", "--", "local", "feature/x"]
    assert arguments("preview-env", "BRANCH=feature/x", "STACK=local", "HOURS=5") == named
    assert arguments("preview-env-gc") == ["gc", "--", "dev"]


def test_status_is_that_of_this_machine_unless_a_stack_is_named(sandbox: Sandbox) -> None:
    assert [call.module for call in sandbox.make("status").calls] == ["infra.laptop"]
    assert [call.module for call in sandbox.make("status", "STACK=local").calls] == ["infra.operations"]


@pytest.mark.parametrize("target", sorted(targets().keys() - {"help"}))
def test_no_program_is_started_by_a_python_that_reads_its_own_variables(sandbox: Sandbox, target: str) -> None:
    (sandbox.folder / ".venv/ready").unlink()
    made = sandbox.make(target, *others(target, ""), PYTHON=str(sandbox.python))
    assert made.code == 0, made.error
    assert made.calls
    for call in made.calls:
        if call.words[0] == "python":
            assert call.words[1:3] == ["-E", "-s"] or call.words[1] == "-I"
