"""The resources of each stack, recorded once for all tests, and an image registry."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from infra.documents import REPOSITORY
from infra.images import content
from infra.settings import PROJECT, Settings, load_aws
from ops.aws.account import Account
from ops.plan.resources import Recording
from tests.recordings import recorded
from tests.servers import image_registry

# The stack `other` is `dev` with all other settings in use.
OTHER = "other"
STACKS = ("dev", "staging", "prod", OTHER)


def pytest_configure(config: pytest.Config) -> None:
    # Pulumi's deprecated classes warn on import, even if they are not used.
    config.addinivalue_line("filterwarnings", "ignore:.* has been deprecated in favor of:DeprecationWarning")


def write_other(root: Path) -> None:
    """Write a project with only the stack `other`."""
    config = yaml.safe_load((REPOSITORY / "Pulumi.dev.yaml").read_text())["config"]
    config[f"{PROJECT}:account_id"] = "210987654321"
    config[f"{PROJECT}:deploy_role_arn"] = "arn:aws:iam::210987654321:role/deploy"
    config[f"{PROJECT}:permissions_boundary"] = "arn:aws:iam::210987654321:policy/boundary"
    config[f"{PROJECT}:preview_permissions_boundary"] = "arn:aws:iam::210987654321:policy/preview-boundary"
    config[f"{PROJECT}:network"] |= {"interface_endpoints": ["ecr.api", "sts"], "flow_log_days": 1}
    config[f"{PROJECT}:cluster"] |= {
        "public_access_cidrs": [],
        "admin_arns": ["arn:aws:iam::210987654321:role/people/admin"],
        "reader_arns": ["arn:aws:iam::210987654321:role/github-read"],
    }
    config[f"{PROJECT}:dags"] |= {
        "repository": "git@example.com:ml/dags.git",
        "credentials": "ssh",
        "known_hosts": "example.com ssh-ed25519 AAAA",
    }
    del config[f"{PROJECT}:node_pools"]["gpu"]
    (root / f"Pulumi.{OTHER}.yaml").write_text(yaml.safe_dump({"config": config}))
    (root / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    (root / "infra").symlink_to(REPOSITORY / "infra")


@pytest.fixture(scope="session")
def other_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_other(root)
    return root


@pytest.fixture(scope="session", params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def root(stack: str, other_root: Path) -> Path:
    return other_root if stack == OTHER else REPOSITORY


@pytest.fixture(scope="session")
def recording(stack: str, root: Path) -> Recording:
    return recorded(stack, root)


@pytest.fixture(scope="session")
def settings(stack: str, root: Path) -> Settings:
    return load_aws(stack, root)


@pytest.fixture(scope="session")
def dev() -> Recording:
    return recorded("dev")


@pytest.fixture(scope="session")
def prod() -> Recording:
    return recorded("prod")


@pytest.fixture(scope="session")
def other(other_root: Path) -> Recording:
    return recorded(OTHER, other_root)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An empty AWS account."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield Account("123456789012", "arn", "eu-west-1", boto3.Session(region_name="eu-west-1"))


@pytest.fixture
def repositories(account: Account) -> Any:
    """The image repositories of dev and their client."""
    client = account.client("ecr")
    for name in content.names():
        client.create_repository(repositoryName=f"airflow-dev/{name}")
    return client


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image registry on this machine; each test uses its own part of it."""
    if missing := [name for name in ("docker-registry", "skopeo") if shutil.which(name) is None]:
        pytest.skip(f"not on PATH: {', '.join(missing)}")
    with image_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address
