"""Stacks on an existing cluster: state, leftovers, and checks before a deployment."""

import stat
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra.errors import OperationError
from infra.existing_cluster.context import ContextError
from infra.settings import ExistingClusterSettings, load
from ops.kubernetes.cluster import Cluster
from ops.pulumi import local_state
from ops.pulumi.local_state import environment
from ops.stacks.existing_cluster_stack import ExistingClusterStack
from ops.teardown import existing_cluster_teardown as destroying
from tests.programs import put_on_path

FAKE_CLI = """#!/bin/sh
[ "$1" = version ] && { echo v3.272.0; exit; }
echo "$PULUMI_BACKEND_URL ${PULUMI_CONFIG_PASSPHRASE:-unset} $*" >> "$CALLS"
[ "$2" = select ] && echo "encryptionsalt: abc" >> Pulumi.local.yaml
[ "$2" = output ] && echo "$OUTPUTS"
exit 0
"""


@pytest.fixture
def settings() -> ExistingClusterSettings:
    found = load("local")
    assert isinstance(found, ExistingClusterSettings)
    return found


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a Pulumi CLI that records its calls, and a kubeconfig of a cluster that is never called."""
    (tmp_path / "Pulumi.local.yaml").write_text("config: {}\n")
    put_on_path(monkeypatch, tmp_path / "bin" / "pulumi", FAKE_CLI)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("OUTPUTS", '{"context": "kind-dev"}')
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "of somebody's other project")
    monkeypatch.setattr(local_state, "FOLDER", tmp_path / ".pulumi-state")
    monkeypatch.setattr("ops.pulumi.deployment.REPOSITORY", tmp_path)
    monkeypatch.setattr(Cluster, "check", lambda _: None)
    point_at(tmp_path, monkeypatch, "kind-dev")
    return tmp_path


def point_at(folder: Path, monkeypatch: pytest.MonkeyPatch, context: str) -> None:
    content = {
        "clusters": [{"name": context, "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": context, "user": {}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig"))


def test_the_state_is_a_folder_of_the_clone_and_its_key_is_the_owners_alone(tmp_path: Path) -> None:
    first = environment(tmp_path / "state")
    key = Path(str(first["PULUMI_CONFIG_PASSPHRASE_FILE"]))
    assert first["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/state"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert len(key.read_text()) >= 32
    before = key.read_text()
    assert environment(tmp_path / "state") == first
    assert key.read_text() == before


def test_deploying_leaves_the_stack_file_as_git_knows_it(clone: Path, settings: ExistingClusterSettings) -> None:
    deployment = ExistingClusterStack("local", settings, pytest.fail).deployment
    deployment.run("up", "--yes")
    assert (clone / "Pulumi.local.yaml").read_text() == "config: {}\n"
    state = f"file://{clone}/.pulumi-state unset"
    assert (clone / "calls").read_text().splitlines() == [
        f"{state} stack select --create --secrets-provider passphrase --stack local",
        f"{state} stack output --json --show-secrets --non-interactive --stack local",
        f"{state} up --yes --config-file {clone}/.pulumi-state/Pulumi.local.yaml --stack local",
    ]


def test_another_cluster_stops_everything_before_pulumi_starts(
    clone: Path, settings: ExistingClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(clone, monkeypatch, "prod")
    with pytest.raises(ContextError, match=r"^local may not use the context prod, only kind-"):
        assert ExistingClusterStack("local", settings, pytest.fail).deployment
    assert not (clone / "calls").exists()
    assert not (clone / ".pulumi-state").exists()


def test_a_stack_in_one_cluster_is_not_deployed_to_another(
    clone: Path, settings: ExistingClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(clone, monkeypatch, "kind-other")
    with pytest.raises(
        OperationError, match=r"^local is deployed in the cluster kind-dev, but the current context is "
    ):
        assert ExistingClusterStack("local", settings, pytest.fail).deployment


def test_a_deployment_that_cannot_succeed_is_cancelled_with_the_reason(
    clone: Path, settings: ExistingClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = ExistingClusterStack("local", settings, pytest.fail).deployment
    monkeypatch.setattr("ops.pulumi.deployment.POLL_INTERVAL_SECONDS", 0.2)
    (clone / "bin" / "pulumi").write_text("#!/bin/sh\nexec sleep 10\n")
    with pytest.raises(OperationError, match=r"^pod it: no image$"):
        deployment.run("up", watch=lambda: "pod it: no image")


class Remains:
    """A cluster that may contain leftovers."""

    context = "kind-dev"

    def __init__(self, namespaces: tuple[str, ...] = (), volumes: tuple[str, ...] = (), has: bool = False) -> None:
        self._namespaces, self._volumes, self._has = namespaces, volumes, has

    def namespaces(self) -> list[str]:
        return ["default", *self._namespaces]

    def volumes_of(self, _: Any) -> list[str]:
        return list(self._volumes)

    def has(self, _: Any) -> bool:
        return self._has


PRIORITY = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "airflow-tasks"}}
NAMESPACES = ("airflow-platform", "airflow")


@pytest.mark.parametrize(
    ("remains", "left"),
    [
        (Remains(namespaces=("airflow",)), "namespace airflow"),
        (Remains(volumes=("pv-1",)), "volume pv-1"),
        (Remains(has=True), "PriorityClass airflow-tasks"),
    ],
)
def test_leftovers_of_a_stack_are_listed(remains: Remains, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destroying, "TIMEOUT_SECONDS", 0)
    said: list[str] = []
    with pytest.raises(OperationError, match=r"^1 objects of local are left in kind-dev: delete the ones listed"):
        destroying.report("local", cast(Cluster, remains), [PRIORITY], NAMESPACES, said.append)
    assert said == [f"left: {left}"]


def test_no_leftovers_are_reported_in_one_line() -> None:
    said: list[str] = []
    destroying.report("local", cast(Cluster, Remains()), [PRIORITY], NAMESPACES, said.append)
    assert said == [
        "nothing of local is left in kind-dev: no namespace airflow-platform or airflow, none of their volumes, none "
        "of the 1 objects"
    ]
