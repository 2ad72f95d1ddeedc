"""Files that are edited by hand: a mistake is reported in one sentence with the file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pulumi
import pytest

from infra import helm_values
from infra.airflow.values import checked_values
from infra.errors import OperationError
from infra.existing_cluster.context import current_context
from infra.previews.settings import load_preview
from infra.settings import load
from ops.kubernetes.cluster import Cluster
from ops.laptop import ports
from ops.laptop.home import Home
from ops.plan.prices import priced_regions, prices_of
from ops.plan.recording import record
from ops.plan.usage import stated_usage

Reader = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


def with_values(file: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helm_values, "FOLDER", file.parent)
        return helm_values.airflow_settings()


JSON: dict[str, Reader] = {
    "ports.json": lambda file: ports.load(Home(file.parent)),
    "secrets.json": lambda file: Home(file.parent).secrets,
}
YAML: dict[str, Reader] = {
    "Pulumi.dev.yaml": lambda file: load("dev", file.parent),
    "Pulumi.preview-dev-x.yaml": lambda file: load_preview("preview-dev-x", file.parent),
    "Pulumi.yaml": lambda file: record("dev", file.parent),
    "airflow.yaml": with_values,
    "usage.yaml": stated_usage,
    "prices.yaml": lambda file: prices_of("us-east-1", file),
    "regions.yaml": priced_regions,
    "kubeconfig": lambda _: current_context(),
}
FILES = [(name, read, broken) for kind, broken in ((JSON, b'{\n"a": 1,\n}\n'), (YAML, b"a:\n\tb: 1\n"))
         for name, read in kind.items()]  # fmt: skip


def put(tmp_path: Path, name: str, content: bytes | None) -> Path:
    """Write a file; for None, create a folder instead."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    return file


def message_of(read: Reader, file: Path) -> str:
    with pytest.raises((OperationError, pulumi.RunError)) as caught:
        read(file)
    sentence = str(caught.value)
    assert file.name in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(("name", "read", "broken"), FILES, ids=[name for name, *_ in FILES])
def test_a_mistake_is_one_sentence_with_file_and_line(tmp_path: Path, name: str, read: Reader, broken: bytes) -> None:
    sentence = message_of(read, put(tmp_path, name, broken))
    assert f"line {broken.count(10) if name.endswith('.json') else 2}" in sentence


@pytest.mark.parametrize("content", [b"caf\xe9", b"- a\n- b\n", None], ids=["not UTF-8", "a list", "a folder"])
@pytest.mark.parametrize(("name", "read", "broken"), FILES, ids=[name for name, *_ in FILES])
def test_an_unreadable_file_is_one_sentence(
    tmp_path: Path, name: str, read: Reader, broken: bytes, content: bytes | None
) -> None:
    message_of(read, put(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("ports.json", '{\n"postgres": "many"\n}', "line 2: postgres: Input should be a valid integer"),
        ("ports.json", '{"postgres": 70000}', "line 1: postgres: Input should be less than or equal to 65535"),
        ("ports.json", '{"postgres": 5442}', "has no port for "),
        ("secrets.json", '{"postgres": 5}', "postgres: Input should be a valid string"),
    ],
)
def test_an_invalid_value_of_the_laptop_is_one_sentence(tmp_path: Path, name: str, content: str, reason: str) -> None:
    assert reason in message_of(JSON[name], put(tmp_path, name, content.encode()))


def test_the_sentence_about_a_file_contains_no_secret(tmp_path: Path) -> None:
    sentence = message_of(JSON["secrets.json"], put(tmp_path, "secrets.json", b'{"postgres": ["hunter2"]}'))
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ports.json", ["status"]),
        ("ports.json", ["up", "--no-run"]),
    ],
)
def test_a_command_of_the_laptop_exits_with_the_sentence(tmp_path: Path, name: str, arguments: list[str]) -> None:
    for folder in ("logs", "processes"):
        (tmp_path / folder).mkdir()
    if name != "ports.json":
        put(tmp_path, "ports.json", b"{%s}" % b", ".join(b'"%s": 1' % key.encode() for key in ports.PREFERRED))
    file = put(tmp_path, name, b'{\n  "postgres": 5442,\n}\n')
    command = [sys.executable, "-m", "ops", *arguments, "--home", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {file}, line 3: not valid JSON: ")
    assert len(done.stderr.splitlines()) == 1
    assert file.read_bytes() == b'{\n  "postgres": 5442,\n}\n'


def test_invalid_values_end_the_program_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "airflow.yaml", b"a:\n\tb: 1\n")
    monkeypatch.setattr(helm_values.read, "__defaults__", (tmp_path,))
    with pytest.raises(pulumi.RunError, match=r"airflow.yaml, line 2: not valid YAML: "):
        checked_values("dev")


@pytest.mark.parametrize(
    "content",
    [
        "current-context: x\ncontexts: []\nclusters: []\nusers: []\n",
        "current-context: x\ncontexts: [{name: x, context: 5}]\n",
        "current-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n"
        "clusters: [{name: x, cluster: {server: https://x, certificate-authority-data: ':'}}]\nusers: [{name: x}]\n",
    ],
)
def test_a_kubeconfig_without_access_is_one_sentence(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path, "kubeconfig", content.encode())
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    with pytest.raises(OperationError, match=r"^the kubeconfig gives no access to x \(.*\): check that `kubectl get "):
        Cluster.of_context(current_context())
