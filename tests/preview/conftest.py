"""Fixtures for preview environments: recorded programs, and an in-process cluster for their records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from infra.documents import REPOSITORY
from infra.previews.settings import PreviewSettings, text_of
from infra.settings import PROJECT
from ops.kubernetes.cluster import Cluster
from ops.plan.recording import record
from ops.plan.resources import Recording
from ops.previews.records import Record, Records

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NAMESPACE = "airflow-platform"
# A stack on AWS, one on an existing cluster, and both with their own private repository.
BASES = ("dev", "local", "private-aws", "private")
DAGS = {
    "repository": "git@example.com:ml/dags.git",
    "branch": "private",
    "credentials": "ssh",
    "known_hosts": "example.com ssh-ed25519 AAAA",
}


def settings_of(base: str = "local", branch: str = "feature/x", expires_at: datetime = NOW) -> PreviewSettings:
    return PreviewSettings(base=base, branch=branch, owner="Ada", expires_at=expires_at)


def record_of(settings: PreviewSettings, *, removing: bool = False) -> Record:
    return Record(settings.stack, text_of(settings, ""), removing)


def write_project(root: Path) -> None:
    """Write a project with the bases, and environments of two branches for each."""
    for file in REPOSITORY.glob("Pulumi.yaml"):
        (root / file.name).write_text(file.read_text())
    for base in ("dev", "local"):
        (root / f"Pulumi.{base}.yaml").write_text((REPOSITORY / f"Pulumi.{base}.yaml").read_text())
    for name, like, branch in (("private-aws", "dev", "private-aws"), ("private", "local", "private")):
        config = yaml.safe_load((REPOSITORY / f"Pulumi.{like}.yaml").read_text())["config"]
        config[f"{PROJECT}:dags"] = DAGS | {"branch": branch}
        config[f"{PROJECT}:tasks"] = {"max_pods": 2, "max_cpus": 1, "max_memory_gib": 32}
        if like == "dev":
            config[f"{PROJECT}:network"] |= {"cidr": "10.90.0.0/16"}
        (root / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": config}))
    (root / "infra").symlink_to(REPOSITORY / "infra")
    for base in BASES:
        for branch in ("feature/x", "feature/y"):
            settings = settings_of(base, branch)
            (root / f"Pulumi.{settings.stack}.yaml").write_text(text_of(settings, ""))


def pytest_configure(config: pytest.Config) -> None:
    # Pulumi's own classes of deprecated names warn when they are imported, used or not.
    config.addinivalue_line("filterwarnings", "ignore:.* has been deprecated in favor of:DeprecationWarning")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_project(root)
    return root


@pytest.fixture(scope="session")
def recorded(project: Path) -> Callable[..., Recording]:
    """Return the resources of an environment's program, or of its base's if no branch is given."""

    @cache
    def recording(base: str, branch: str | None = "feature/x", *, reveal: bool = False) -> Recording:
        if branch is None:
            return record(base, project)
        return record(settings_of(base, branch).stack, project, reveal=reveal, base=recording(base, None))

    return recording


@dataclass
class FakeCore:
    """The part of the Kubernetes API that records use, with resource versions and conflicts."""

    items: dict[tuple[str, str], Any] = field(default_factory=dict)
    version: int = 0
    created_at: datetime = NOW

    def list_namespaced_config_map(self, namespace: str, label_selector: str, **_: Any) -> Any:
        name, value = label_selector.split("=")
        return SimpleNamespace(
            items=[item for (space, _), item in self.items.items() if space == namespace and item.labels[name] == value]
        )

    def create_namespaced_config_map(self, namespace: str, body: Any, **_: Any) -> Any:
        if (namespace, body["metadata"]["name"]) in self.items:
            raise ApiException(status=409, reason="Conflict")
        return self._put(namespace, body, self.created_at)

    def replace_namespaced_config_map(self, name: str, namespace: str, body: Any, **_: Any) -> Any:
        present = self._present(namespace, name)
        if body["metadata"]["resourceVersion"] != present.metadata.resource_version:
            raise ApiException(status=409, reason="Conflict")
        return self._put(namespace, body, present.metadata.creation_timestamp)

    def delete_namespaced_config_map(self, name: str, namespace: str, body: Any, **_: Any) -> None:
        if body.preconditions["resourceVersion"] != self._present(namespace, name).metadata.resource_version:
            raise ApiException(status=409, reason="Conflict")
        del self.items[namespace, name]

    def _present(self, namespace: str, name: str) -> Any:
        if (namespace, name) not in self.items:
            raise ApiException(status=404, reason="Not Found")
        return self.items[namespace, name]

    def _put(self, namespace: str, body: Any, created_at: datetime) -> Any:
        self.version += 1
        metadata = SimpleNamespace(
            name=body["metadata"]["name"],
            annotations=body["metadata"]["annotations"] or None,
            creation_timestamp=created_at,
            resource_version=str(self.version),
        )
        item = SimpleNamespace(metadata=metadata, data=body["data"], labels=body["metadata"]["labels"])
        self.items[namespace, metadata.name] = item
        return item


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    fake = FakeCore()
    monkeypatch.setattr(Records, "_core", fake)
    return fake


@pytest.fixture
def records(core: FakeCore) -> Records:
    return Records(Cluster("kind-test", None), NAMESPACE)
