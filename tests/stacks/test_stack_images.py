"""The check that the images of a deployment are in the stack's registry."""

from datetime import UTC, datetime
from typing import Any

import pytest

from infra.errors import OperationError
from infra.images import content
from infra.images.nodes import nodes_of
from infra.release import Chart, Release, ReleasedImage
from infra.settings import load
from ops.aws.account import Account
from ops.stacks.missing_images import check_images, check_preview_images
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.resolve import stack_with


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
def release() -> Release:
    images = {
        name: ReleasedImage(repository=f"registry.example/{name}", tag="1", digest=digest(name))
        for name in content.names()
    }
    return Release(
        stack="staging",
        commit="1" * 40,
        dags="2" * 40,
        chart=Chart(version="1.22.0", sha256="3" * 64),
        airflow_version="3.3.2",
        database_revisions={},
        images=images,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def stack_with_registry(name: str, shelf: Any, previews: Any = None) -> PlatformStack:
    """Return a stack with a fake registry, and one for its preview environments."""
    stack = stack_with(name, load(name), pytest.fail)
    vars(stack)["registry"] = lambda **given: previews if given else shelf
    return stack


def test_the_images_of_the_sources_must_be_in_the_registry() -> None:
    tags = {name: content.tag(name, nodes=nodes_of("dev")) for name in content.names()}
    check_images(stack_with_registry("dev", Shelf(*tags.values())), None)
    with pytest.raises(
        OperationError,
        match=r"^the registry of dev lacks images of this commit \(serving\): run `make images STACK=dev`, then re",
    ):
        check_images(stack_with_registry("dev", Shelf(*(tag for name, tag in tags.items() if name != "serving"))), None)


def test_of_a_release_the_digests_must_be_there(release: Release) -> None:
    check_images(stack_with_registry("staging", Shelf(*map(digest, content.names()))), release)
    with pytest.raises(
        OperationError,
        match=r"^the registry of staging lacks images of the release \(airflow, ml\): run `make promote FROM=dev "
        r"TO=staging`, then rerun this command$",
    ):
        check_images(stack_with_registry("staging", Shelf(digest("mlflow"), digest("serving"), "1")), release)


@pytest.mark.parametrize("name", ["dev", "staging"])
def test_without_repositories_the_stack_is_not_bootstrapped(account: Account, name: str) -> None:
    stack = stack_with(name, load(name), pytest.fail)
    vars(stack)["account"] = account
    sentence = rf"^the ECR repository airflow-{name}/airflow does not exist: create it with `make boot.* STACK={name}`$"
    with pytest.raises(OperationError, match=sentence):
        check_images(stack, None)


def test_the_images_of_a_preview_environment_must_be_in_their_own_registry() -> None:
    tags = {name: content.tag(name, nodes=nodes_of("dev")) for name in content.names()}
    full = Shelf(*tags.values())
    check_preview_images(stack_with_registry("dev", full, full))
    with pytest.raises(
        OperationError,
        match=r"^the registry of the preview environments of dev lacks images of this commit \(mlflow, serving\): run "
        r"`make images STACK=dev PREVIEW=1`, then rerun this command$",
    ):
        check_preview_images(stack_with_registry("dev", full, Shelf(tags["airflow"], tags["ml"])))


def test_images_on_nodes_are_looked_for_by_their_pods() -> None:
    local = stack_with_registry("local", Shelf())
    check_images(local, None)
    local.settings = local.settings.model_copy(update={"registry": "registry.example"})
    with pytest.raises(OperationError, match=r"^the registry of local lacks images of this commit \(airflow, ml, "):
        check_images(local, None)
