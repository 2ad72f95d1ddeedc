"""The check that the images of a deployment are in the stack's registry."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra.errors import OperationError
from infra.images import content
from infra.images.nodes import nodes_of
from infra.images.pinned import RELEASE_FILE
from infra.release import Chart, Release, ReleasedImage
from infra.settings import ExistingClusterSettings, load, load_aws
from ops.aws.account import Account
from ops.images.ecr import Ecr
from ops.kubernetes.cluster import Cluster
from ops.pulumi import stack_images
from ops.pulumi.aws_deployment import AwsDeployment
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment
from ops.pulumi.stack_images import check_images, check_preview_images


class Shelf:
    """A registry with these tags and digests."""

    def __init__(self, *there: str) -> None:
        self.there = there

    def repository(self, image: str) -> str:
        return f"registry.example/{image}"

    def digest(self, _image: str, tag: str) -> str | None:
        return "sha256:1" if tag in self.there else None

    def has_digest(self, _image: str, digest: str) -> bool:
        return digest in self.there


def digest(name: str) -> str:
    return f"sha256:{name.encode().hex():0<64}"


@pytest.fixture
def release_file(tmp_path: Path) -> Path:
    images = {
        name: ReleasedImage(repository=f"registry.example/{name}", tag="1", digest=digest(name))
        for name in content.names()
    }
    release = Release(
        stack="staging",
        commit="1" * 40,
        dags="2" * 40,
        chart=Chart(version="1.22.0", sha256="3" * 64),
        airflow_version="3.3.2",
        database_revisions={},
        images=images,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    file = tmp_path / "release.yaml"
    file.write_text(yaml.safe_dump(release.model_dump(mode="json")))
    return file


def deployment(stack: str, file: Path | None = None) -> AwsDeployment:
    environment = {RELEASE_FILE: str(file)} if file else {}
    return AwsDeployment(stack, "pulumi", environment, load_aws(stack), cast(Account, None))


def check(monkeypatch: pytest.MonkeyPatch, shelf: Shelf, stack: str, file: Path | None = None) -> None:
    monkeypatch.setattr(stack_images, "registry_of", lambda *_: shelf)
    check_images(deployment(stack, file), pytest.fail)


def test_the_images_of_the_sources_must_be_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {name: content.tag(name, nodes=nodes_of("dev")) for name in content.names()}
    check(monkeypatch, Shelf(*tags.values()), "dev")
    with pytest.raises(
        OperationError,
        match=r"^the registry of dev lacks images of this commit \(serving\): run `make images STACK=dev`, then re",
    ):
        check(monkeypatch, Shelf(*(tag for name, tag in tags.items() if name != "serving")), "dev")


def test_of_a_release_the_digests_must_be_there(monkeypatch: pytest.MonkeyPatch, release_file: Path) -> None:
    check(monkeypatch, Shelf(*map(digest, content.names())), "staging", release_file)
    with pytest.raises(
        OperationError,
        match=r"^the registry of staging lacks images of the release \(airflow, ml\): run `make promote FROM=dev "
        r"TO=staging`, then rerun this command$",
    ):
        check(monkeypatch, Shelf(digest("mlflow"), digest("serving"), "1"), "staging", release_file)


@pytest.mark.parametrize(
    ("stack", "command"), [("dev", "make images STACK=dev"), ("staging", "make promote FROM=dev TO=staging")]
)
def test_the_first_deployment_makes_the_registry(
    account: Account, monkeypatch: pytest.MonkeyPatch, stack: str, command: str
) -> None:
    monkeypatch.setattr(stack_images, "registry_of", lambda *_: Ecr(stack, account))
    said: list[str] = []
    check_images(deployment(stack), said.append)
    assert said == [
        f"this deployment creates the image registry first: run `{command}` in another terminal in about a minute"
    ]


def test_the_images_of_a_preview_environment_must_be_in_their_own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {name: content.tag(name, nodes=nodes_of("dev")) for name in content.names()}
    monkeypatch.setattr(stack_images, "registry_of", lambda *_: Shelf(*tags.values()))
    monkeypatch.setattr(stack_images, "preview_registry_of", lambda *_: Shelf(*tags.values()))
    check_preview_images(deployment("dev"))
    monkeypatch.setattr(stack_images, "preview_registry_of", lambda *_: Shelf(tags["airflow"], tags["ml"]))
    with pytest.raises(
        OperationError,
        match=r"^the registry of the preview environments of dev lacks images of this commit \(mlflow, serving\): run "
        r"`make images STACK=dev PREVIEW=1`, then rerun this command$",
    ):
        check_preview_images(deployment("dev"))


def test_images_on_nodes_are_looked_for_by_their_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)

    def local(**changes: Any) -> ExistingClusterDeployment:
        return ExistingClusterDeployment(
            "local", "pulumi", {}, settings.model_copy(update=changes), cast(Cluster, None)
        )

    monkeypatch.setattr(stack_images, "registry_of", lambda *_: Shelf())
    check_images(local(), pytest.fail)
    with pytest.raises(OperationError, match=r"^the registry of local lacks images of this commit \(airflow, ml, "):
        check_images(local(registry="registry.example"), pytest.fail)
