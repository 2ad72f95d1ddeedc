"""The user's environment variables: which of them reach commands, and that the others have no effect."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.documents import REPOSITORY
from ops import environments
from ops.cli import app
from ops.laptop import ports, postgres, processes
from ops.laptop.home import Home
from ops.process_environment import (
    COMMANDS,
    LAPTOP,
    OPERATIONS,
    PACKAGES,
    PARAMETERS,
    SYSTEM,
    TESTS,
    allowed,
    enter,
    enter_command,
    within,
)

# Each value makes a command fail that reads it, at startup, at an import or at a connection to a server.
FOREIGN = {
    "PYTHONHOME": "/nowhere",
    "PYTHONWARNINGS": "error",
    "PSYCOPG_IMPL": "nope",
    "PGSERVER_POSTGRES_VERSION": "1",
    "OTEL_PROPAGATORS": "nope",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "nope",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "nope",
    "BASH_ENV": "/nowhere",
    "ALL_PROXY": "socks5://127.0.0.1:1",
    "HTTPS_PROXY": "nope://127.0.0.1:1",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
    "AWS_CA_BUNDLE": "/nowhere/ca.pem",
    "AWS_PROFILE": "nope",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "BUCKET_PREFIX": "nope/",
    "PGSSLMODE": "verify-full",
    "PGSERVICE": "nope",
    "PGOPTIONS": "-c nope=1",
    "PGHOSTADDR": "192.0.2.1",
    "PGREQUIREAUTH": "none",
}


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, str]:
    """An environment in which reading any variable of another program causes a failure."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for module in ("yaml", "rich", "boto3", "json"):
        (folder / f"{module}.py").write_text(f"raise RuntimeError('{module} of another project')\n")
    (folder / "config").write_text("[profile\n")
    found = {name: os.environ[name] for name in ("PATH", "HOME")}
    return found | FOREIGN | {"PYTHONPATH": str(folder), "AWS_CONFIG_FILE": str(folder / "config")}


def make(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status"], "error: nothing was ever started in "),
        (["down"], ""),
        (["plan", "STACK=nope"], "error: Pulumi.nope.yaml does not exist: "),
        (["preview", "STACK=nope"], "error: Pulumi.nope.yaml does not exist: "),
        (["gates", "STACK=dev"], "error: dev is the first stack of the chain"),
        (["plan-comment", "AGAINST=nope"], "error: AGAINST=nope is not a git ref in this repository"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_variables_of_other_programs_change_nothing(
    foreign: dict[str, str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = make(foreign | {"LAPTOP_HOME": str(tmp_path / "home")}, *arguments)
    messages = done.stderr.splitlines()
    if sentence:
        assert messages[0].startswith(sentence), done.stderr
    assert len(messages) == (2 if sentence else 0), done.stderr  # the second one is make's


@pytest.mark.parametrize("command", ["ops up", "ops deploy", "ops plan", "ops gate", "ops images", "ops.environments"])
def test_every_command_starts_with_any_variables_of_other_programs(foreign: dict[str, str], command: str) -> None:
    started = [sys.executable, "-E", "-s", "-m", *command.split(), "--help"]
    done = subprocess.run(started, env=foreign, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_allowlists_are_for_existing_commands() -> None:
    assert COMMANDS.keys() <= app.COMMANDS.keys()


def test_the_variables_of_arguments_reach_commands_but_not_their_child_processes() -> None:
    read = {each.envvar for name in app.COMMANDS for each in app.loaded(name).params if getattr(each, "envvar", None)}
    assert read - {"LAPTOP_HOME"} == set(PARAMETERS)
    program = """
import os, sys
from ops.cli import app, images, options
def image_names(stack: options.Stack) -> None:
    print(stack, *os.environ)
images.image_names = image_names
sys.argv[1:] = ["image-names"]
app.main()
"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | dict.fromkeys(PARAMETERS, "given"),
        check=True,
        capture_output=True,
        text=True,
    )
    value, *names = found.stdout.split()
    assert value == "given"
    assert not set(PARAMETERS) & set(names)


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["up"], {}, LAPTOP),
        (["status"], {}, LAPTOP),
        (["status"], {"STACK": "dev"}, OPERATIONS),
        (["status", "dev"], {}, OPERATIONS),
        (["run", "churn", "--params", "limit=1"], {}, LAPTOP),
        (["run", "churn"], {"STACK": "dev"}, OPERATIONS),
        (["run", "churn", "--stack", "dev"], {}, OPERATIONS),
        (["run", "churn", "--stack=dev"], {}, OPERATIONS),
        (["gate", "tests"], {}, TESTS),
        (["deploy"], {}, OPERATIONS),
        (["--help"], {}, OPERATIONS),
    ],
)
def test_a_command_gets_the_variables_of_its_list(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    for name in ("AWS_PROFILE", "PIP_INDEX_URL", "LAPTOP_HOME", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wanted = allowed(expected) | variables
    with within(TESTS, **dict(os.environ)):
        enter_command(arguments)
        assert dict(os.environ) == wanted


def test_the_installer_starts_without_pythons_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: dict[str, str] = {}
    monkeypatch.setattr(sys, "argv", ["environments", "create", "main"])
    monkeypatch.setattr(environments, "create", lambda _: found.update(environments.environment()))
    with within(TESTS, PYTHONHOME="/nowhere", PIP_FIND_LINKS="/wheels", UV_INDEX_URL="https://packages.example"):
        environments.main()
    assert "PYTHONHOME" not in found
    assert found["UV_FIND_LINKS"] == "/wheels"
    assert found["UV_INDEX_URL"] == "https://packages.example"


def test_a_healthy_database_is_healthy_with_any_libpq_variables(foreign: dict[str, str], tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    postgres.prepare(home)
    chosen = ports.choose(home)
    service = postgres.service(home, chosen["postgres"])
    processes.start(home, service)
    try:
        processes.wait_until_healthy(home, service, 180)
        shown = make(foreign | {"LAPTOP_HOME": str(home.root)}, "status").stdout
        [line] = [line for line in shown.splitlines() if line.startswith("postgres ")]
        assert " healthy " in line
    finally:
        processes.stop(home, "postgres")


def test_a_service_does_not_see_the_users_settings(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    log = processes.log_file(home, "printer")
    program = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    command = (sys.executable, "-c", program)
    processes.start(home, processes.Service("printer", command, {"OWN": "1"}, None, healthy=lambda: True))
    while not log.read_text().endswith("}\n"):
        pass
    found = json.loads(log.read_text())
    assert found["OWN"] == "1"
    assert not FOREIGN.keys() & found.keys()
    processes.stop(home, "printer")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.mark.parametrize("names", [SYSTEM, LAPTOP, PACKAGES, OPERATIONS, TESTS])
def test_no_allowlist_contains_variables_for_other_programs(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ("PYTHONPATH", "PGSSLMODE", "BUCKET_PREFIX", "KUBERNETES_SERVICE_HOST", "MAKEFLAGS", "GIT_DIR", "STACK")
    for name in gone:
        monkeypatch.setenv(name, "x")
    assert not set(gone) & allowed(names).keys()


def test_a_proxy_is_only_for_commands_that_leave_this_machine_and_never_for_its_own_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "example.org,localhost")
    monkeypatch.delenv("no_proxy", raising=False)
    assert "HTTPS_PROXY" not in allowed(LAPTOP)
    assert allowed(OPERATIONS)["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert allowed(OPERATIONS)["no_proxy"] == "example.org,localhost,127.0.0.1"


def test_certificate_variables_pass_only_if_the_files_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    passed = allowed(OPERATIONS)
    assert "SSL_CERT_FILE" not in passed
    assert passed["REQUESTS_CA_BUNDLE"] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "expanded"),
    [
        ("KUBECONFIG", "~/a:/etc/b:~/c", "/home/me/a:/etc/b:/home/me/c"),
        ("UV_FIND_LINKS", "~/wheels,/srv/~x", "/home/me/wheels,/srv/~x"),
        ("PIP_FIND_LINKS", "/srv/a ~/wheels", "/srv/a /home/me/wheels"),
        ("LANG", "~/x", "~/x"),
    ],
)
def test_a_tilde_that_the_shell_did_not_expand_in_a_path_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expanded: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(name, value)
    assert allowed(TESTS)[name] == expanded


def test_cloud_commands_get_the_variables_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {
        *("AWS_PROFILE", "KUBECONFIG", "PULUMI_ACCESS_TOKEN", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK", "GH_TOKEN"),
        *("BUILDER", "IMAGE_LOAD", "IMAGE_BUILD_ARGS", "BASE_IMAGE_ML", "ACTIONS_ID_TOKEN_REQUEST_URL"),
    }
    for name in needed:
        monkeypatch.setenv(name, "x")
    assert allowed(OPERATIONS).items() >= dict.fromkeys(needed, "x").items()
    assert not needed & allowed(LAPTOP).keys()


def test_an_environment_is_entered_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    with within(SYSTEM, OWN="1"):
        assert os.environ["OWN"] == "1"
        assert "PYTEST_CURRENT_TEST" not in os.environ
        monkeypatch.setitem(os.environ, "LATER", "1")
    assert dict(os.environ) == before
    with within(TESTS):
        os.environ["PGHOST"] = "x"
        enter(TESTS)
        assert "PGHOST" not in os.environ
