"""Fixtures for preview environments: recorded programs, and an in-process cluster for their records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
import yaml

from infra.documents import REPOSITORY
from infra.previews.settings import PreviewSettings, text_of
from infra.settings import PROJECT
from ops.plan.recording import record
from ops.plan.resources import Recording
from ops.previews.records import Record, Records
from tests.kubernetes_api import KubernetesApi, kubernetes_api

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
        config[f"{PROJECT}:model_approval"] = "required"
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


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as server:
        server.created_at = NOW
        yield server


@pytest.fixture
def records(api: KubernetesApi) -> Records:
    return Records(api.cluster, NAMESPACE)
