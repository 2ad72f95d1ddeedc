import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.errors import OperationError
from ops.kubernetes import kubeconfig


def access(name: str, server: str = "https://cluster") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def test_the_first_cluster_makes_the_file_readable_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "config"
    kubeconfig.write(file, access("dev"))
    assert yaml.safe_load(file.read_text()) == access("dev")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_cluster_is_added_and_chosen(tmp_path: Path) -> None:
    file = tmp_path / "config"
    kubeconfig.write(file, access("dev"))
    kubeconfig.write(file, access("prod"))
    content = yaml.safe_load(file.read_text())
    assert [entry["name"] for entry in content["clusters"]] == ["dev", "prod"]
    assert content["current-context"] == "prod"


def test_a_recreated_cluster_replaces_its_entry() -> None:
    merged = kubeconfig.merged(
        access("dev", "https://old") | {"preferences": {"colors": True}}, access("dev", "https://new")
    )
    assert merged["clusters"] == [{"name": "dev", "cluster": {"server": "https://new"}}]
    assert merged["preferences"] == {"colors": True}


def test_an_invalid_yaml_file_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("{broken")
    with pytest.raises(OperationError, match=r"config, line 1: not valid YAML: .*; nothing was added to it"):
        kubeconfig.write(file, access("dev"))
    assert file.read_text() == "{broken"


def test_the_file_is_the_first_that_kubectl_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a/config:/b/config")
    assert kubeconfig.kubeconfig_file() == Path("/a/config")
    monkeypatch.delenv("KUBECONFIG")
    assert kubeconfig.kubeconfig_file() == Path.home() / ".kube" / "config"
