"""Looking up and copying images: with real registries on this machine, and with ECR by moto."""

import base64
import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from infra.errors import OperationError
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import Nodes
from infra.release import ReleasedImage
from infra.settings import ExistingClusterSettings, load
from ops.aws.account import Account
from ops.images import login, skopeo
from ops.images.ecr import Ecr, NoRepositoryError
from ops.images.login import is_loopback, logged_in
from ops.images.oci import OciRegistry
from ops.images.registries import built_images, copy, copy_unchanged, signature_tags
from ops.stacks.resolve import stack_with
from tests.filled_settings import load_filled
from tests.programs import put_on_path
from tests.servers import free_port

from .small_image import TAG, push

ABSENT = f"sha256:{'0' * 64}"
ECR_HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

# A program that records its calls and the content of its login file.
FAKE_SKOPEO = """#!/bin/sh
echo "$*" >> "$FAKE_SKOPEO/calls"
for word; do case "$word" in *authfile=*)
  cp -p "${word#*=}" "$FAKE_SKOPEO/login" && stat -c %a "$(dirname "${word#*=}")" > "$FAKE_SKOPEO/folder" ;;
esac; done
[ ! -e "$FAKE_SKOPEO/error" ] || { cat "$FAKE_SKOPEO/error" >&2; exit 1; }
"""


@pytest.fixture
def registry(address: str, tmp_path: Path) -> OciRegistry:
    """A part of the registry that no other test uses."""
    return OciRegistry(f"{address}/{tmp_path.name}/source")


@pytest.fixture
def target(address: str, tmp_path: Path) -> OciRegistry:
    return OciRegistry(f"{address}/{tmp_path.name}/target")


def silent(_line: str) -> None:
    """Discard the message."""


def test_a_registry_returns_the_digest_of_a_tag(tmp_path: Path, registry: OciRegistry) -> None:
    image = push(tmp_path, registry)
    assert registry.digest("ml", TAG) == image.digest
    assert registry.has_digest("ml", image.digest)
    assert registry.has(f"{image.repository}:{TAG}")


def test_a_missing_image_has_no_digest(tmp_path: Path, registry: OciRegistry) -> None:
    assert registry.digest("ml", TAG) is None  # the repository is missing, too
    push(tmp_path, registry)
    assert registry.digest("ml", "other") is None
    assert not registry.has_digest("ml", ABSENT)
    assert not registry.has(f"{registry.repository('ml')}:other")


def test_a_copy_has_the_same_digest_and_the_same_tag(
    tmp_path: Path, registry: OciRegistry, target: OciRegistry
) -> None:
    image = push(tmp_path, registry)
    lines: list[str] = []
    copied = copy(registry, target, image, "ml", lines.append)
    assert copied == image.model_copy(update={"repository": target.repository("ml")})
    assert target.digest("ml", TAG) == image.digest
    assert lines == [f"ml: copying to {target.repository('ml')}"]


def test_an_existing_image_is_not_copied_again(
    tmp_path: Path, registry: OciRegistry, target: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push(tmp_path, registry)
    first = copy(registry, target, image, "ml", silent)
    monkeypatch.setattr(skopeo, "copy", lambda *_: pytest.fail("it was copied"))
    assert copy(registry, target, image, "ml", pytest.fail) == first


def test_the_digest_is_copied_even_if_the_tag_has_moved(
    tmp_path: Path, registry: OciRegistry, target: OciRegistry
) -> None:
    image = push(tmp_path, registry)
    push(tmp_path, registry, text="changed")
    copy(registry, target, image, "ml", silent)
    assert target.digest("ml", TAG) == image.digest


def test_all_architectures_are_copied(tmp_path: Path, registry: OciRegistry, target: OciRegistry) -> None:
    parts = [push(tmp_path, registry, tag=name, text=name) for name in ("amd64", "arm64")]
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": part.digest,
                "size": len(manifest(registry, part.digest)),
                "platform": {"os": "linux", "architecture": part.tag},
            }
            for part in parts
        ],
    }
    host, _, path = registry.repository("ml").partition("/")
    url = f"http://{host}/v2/{path}/manifests/{TAG}"
    headers = {"Content-Type": str(index["mediaType"])}
    answer = httpx.put(url, content=json.dumps(index), headers=headers, trust_env=False).raise_for_status()
    image = ReleasedImage(repository="x", tag=TAG, digest=answer.headers["Docker-Content-Digest"])
    copy(registry, target, image, "ml", silent)
    assert target.digest("ml", TAG) == image.digest
    assert all(target.has_digest("ml", part.digest) for part in parts)


def manifest(registry: OciRegistry, digest: str) -> bytes:
    name = f"docker://{registry.repository('ml')}@{digest}"
    return subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", name], check=True, capture_output=True
    ).stdout


def test_signature_and_provenance_are_copied_once(tmp_path: Path, registry: OciRegistry, target: OciRegistry) -> None:
    image = push(tmp_path, registry)
    copy(registry, target, image, "ml", silent)
    signature, provenance = signature_tags(image.digest)
    assert signature == f"sha256-{image.digest[7:]}.sig"
    signed = push(tmp_path, registry, tag=signature, text="signature")
    copy(registry, target, image, "ml", silent)
    assert target.digest("ml", signature) == signed.digest
    assert target.digest("ml", provenance) is None
    push(tmp_path, registry, tag=signature, text="another")
    copy(registry, target, image, "ml", silent)
    assert target.digest("ml", signature) == signed.digest


def test_a_tag_of_another_image_in_the_target_is_not_overwritten(
    tmp_path: Path, registry: OciRegistry, target: OciRegistry
) -> None:
    image, other = push(tmp_path, registry), push(tmp_path, target, text="other")
    with pytest.raises(
        OperationError,
        match=rf"^{target.repository('ml')}:{TAG} is already {other.digest}, but the release's image is {image.digest}",
    ):
        copy(registry, target, image, "ml", silent)
    assert target.digest("ml", TAG) == other.digest


def test_an_image_missing_from_its_registry_is_named(
    tmp_path: Path, registry: OciRegistry, target: OciRegistry
) -> None:
    image = push(tmp_path, registry).model_copy(update={"digest": ABSENT})
    with pytest.raises(
        OperationError, match=rf"^{registry.repository('ml')} does not have {ABSENT}, the release's image ml: "
    ):
        copy(registry, target, image, "ml", silent)
    assert target.digest("ml", TAG) is None


def test_a_registry_that_alters_images_is_reported(
    tmp_path: Path, registry: OciRegistry, target: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push(tmp_path, registry)
    monkeypatch.setattr(skopeo, "copy", lambda *_: push(tmp_path, target, text="changed"))
    with pytest.raises(OperationError, match=rf"is sha256:\w+ after it was copied as {image.digest}, so the registry "):
        copy(registry, target, image, "ml", silent)


def test_the_images_of_this_commit_have_their_digests(tmp_path: Path, registry: OciRegistry) -> None:
    nodes = Nodes("amd64", gpus=True)
    with pytest.raises(OperationError, match=r"^the registry lacks images of this commit \(airflow, ml, mlflow, serv"):
        built_images(registry, nodes)
    pushed = {name: push(tmp_path, registry, name, content.tag(name, nodes=nodes)) for name in content.names()}
    assert built_images(registry, nodes) == pushed


def test_the_error_for_a_closed_network_names_the_registry() -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("not on PATH: skopeo")
    closed = OciRegistry(f"127.0.0.1:{free_port()}/team")
    with pytest.raises(ImageError) as caught:
        closed.digest("ml", TAG)
    message = str(caught.value)
    assert message.startswith(f"{closed.repository('ml')}:{TAG} cannot be looked up (")
    assert "connection refused" in message
    assert len(message.splitlines()) == 1


@pytest.fixture
def broken() -> Iterator[OciRegistry]:
    """A registry that lost its disk."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Broken)
    Thread(target=server.serve_forever, daemon=True).start()
    yield OciRegistry(f"127.0.0.1:{server.server_port}/team")
    server.shutdown()
    server.server_close()


def test_a_broken_registry_is_not_treated_as_empty(broken: OciRegistry) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("not on PATH: skopeo")
    with pytest.raises(
        ImageError, match=r"cannot be looked up .* 500 .*: check that this machine reaches the registry"
    ):
        broken.has_digest("ml", ABSENT)


@pytest.fixture
def fake_skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "fake"
    put_on_path(monkeypatch, folder / "skopeo", FAKE_SKOPEO)
    monkeypatch.setenv("FAKE_SKOPEO", str(folder))
    return folder


def test_the_password_of_ecr_is_only_in_its_own_file(account: Account, fake_skopeo: Path) -> None:
    skopeo.copy(f"registry.example/team/ml@{ABSENT}", f"{ECR_HOST}/airflow-dev/ml:{TAG}")
    [token] = account.client("ecr").get_authorization_token()["authorizationData"]
    written = fake_skopeo / "login"
    assert json.loads(written.read_text()) == {"auths": {ECR_HOST: {"auth": token["authorizationToken"]}}}
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert (fake_skopeo / "folder").read_text() == "700\n"
    [call] = (fake_skopeo / "calls").read_text().splitlines()
    [option] = [word for word in call.split() if "authfile" in word]
    assert option.startswith("--dest-authfile=")
    assert call == (
        f"copy --quiet --all --preserve-digests {option} docker://registry.example/team/ml@{ABSENT} "
        f"docker://{ECR_HOST}/airflow-dev/ml:{TAG}"
    )
    password = base64.b64decode(token["authorizationToken"]).decode().partition(":")[2]
    assert password not in call
    assert not Path(option.partition("=")[2]).parent.exists()


def test_other_registries_use_the_users_login(fake_skopeo: Path) -> None:
    skopeo.copy(f"registry.example/ml@{ABSENT}", f"localhost:5000/ml:{TAG}")
    assert (fake_skopeo / "calls").read_text() == (
        f"copy --quiet --all --preserve-digests --dest-tls-verify=false docker://registry.example/ml@{ABSENT} "
        f"docker://localhost:5000/ml:{TAG}\n"
    )


def test_the_last_line_of_skopeo_is_in_the_error(fake_skopeo: Path) -> None:
    line = r'time="2026-01-01T00:00:00Z" level=fatal msg="writing blob: \"quota\" is used up"'
    (fake_skopeo / "error").write_text(f"Getting image source signatures\n{line}\n")
    with pytest.raises(
        ImageError,
        match=r'^a/ml@1 could not be copied to b/ml:1 \(writing blob: "quota" is used up\): check that this ',
    ):
        skopeo.copy("a/ml@1", "b/ml:1")


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("reading manifest x in r.example/ml: manifest unknown: manifest unknown", True),
        ("reading manifest x in r.example/ml: name unknown: The repository with name 'ml' does not exist", True),
        ("reading manifest x in r.example/ml: StatusCode: 404, <!doctype html>", True),
        ("reading manifest x in r.example/ml: unauthorized: access to the requested resource is not authorized", False),
        ('error getting credentials - err: exec: "docker-credential-x": executable file not found in $PATH', False),
        ("pinging container registry r.example: StatusCode: 503, 404 lines follow", False),
    ],
)
def test_missing_and_refused_are_distinguished(fake_skopeo: Path, line: str, absent: bool) -> None:
    (fake_skopeo / "error").write_text(f'time="x" level=fatal msg="{line}"\n')
    if absent:
        assert skopeo.digest("r.example/ml", ":x") is None
    else:
        with pytest.raises(ImageError, match=r"^r\.example/ml:x cannot be looked up \("):
            skopeo.digest("r.example/ml", ":x")


def test_without_skopeo_the_error_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match=r"^skopeo, which reads and copies images in registries, is not on PATH: inst"):
        OciRegistry("registry.example").digest("ml", TAG)


@pytest.mark.parametrize("name", ["127.0.0.1:5000/x", "127.8.0.1/x", "localhost:5000/x", "localhost/x"])
def test_a_registry_on_this_machine_is_detected(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["10.0.0.1:5000/x", "registry.example/x", "localhost.example/x", "128.0.0.1/x"])
def test_no_other_registry_is_taken_for_a_local_one(name: str) -> None:
    assert not is_loopback(name)


def test_ecr_returns_digests(account: Account, repositories: Any) -> None:
    ecr = Ecr("dev", account)
    manifest = '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}'
    assert ecr.digest("ml", TAG) is None
    put = repositories.put_image(repositoryName="airflow-dev/ml", imageManifest=manifest, imageTag=TAG)
    digest = put["image"]["imageId"]["imageDigest"]
    assert ecr.digest("ml", TAG) == digest
    assert ecr.has_digest("ml", digest)
    assert not ecr.has_digest("ml", ABSENT)
    assert not ecr.has_digest("serving", digest)


def test_a_missing_ecr_repository_is_named(account: Account) -> None:
    ecr, sentence = Ecr("dev", account), "the ECR repository airflow-dev/ml does not exist: create it with `make boot"
    with pytest.raises(NoRepositoryError, match=sentence):
        ecr.digest("ml", TAG)
    with pytest.raises(NoRepositoryError, match=sentence):
        ecr.has_digest("ml", ABSENT)


def test_the_login_of_ecr_is_for_the_repositorys_region(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    token = login.ecr_token

    def noted(client: Any) -> str:
        asked.append(client.meta.region_name)
        return token(client)

    monkeypatch.setattr(login, "ecr_token", noted)
    with logged_in("123456789012.dkr.ecr.ap-south-1.amazonaws.com/airflow-dev/ml") as file:
        assert asked == ["ap-south-1"]
        assert file
        assert list(json.loads(file.read_text())["auths"]) == ["123456789012.dkr.ecr.ap-south-1.amazonaws.com"]
    assert not file.exists()
    with logged_in("registry.example/ml") as file:
        assert file is None


def test_images_that_a_branch_does_not_change_are_copied_for_its_preview(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FakeRegistry:
        def __init__(self, address: str, *there: str) -> None:
            self._address, self.there = address, set(there)

        def repository(self, image: str) -> str:
            return f"{self._address}/{image}"

        def digest(self, image: str, tag: str) -> str | None:
            return ABSENT if image in self.there and tag == content.tag(image) else None

        def has_digest(self, image: str, _digest: str) -> bool:
            return image in self.there

    stack, previews = (
        FakeRegistry("registry.example", "airflow", "ml"),
        FakeRegistry("registry.example/previews", "airflow"),
    )
    copied: list[tuple[str, str]] = []

    def take(source: str, target: str) -> None:
        copied.append((source, target))
        previews.there.add("ml")

    monkeypatch.setattr(skopeo, "copy", take)
    copy_unchanged(stack, previews, Nodes(), silent)
    target = f"registry.example/previews/ml:{content.tag('ml')}"
    assert copied == [(f"registry.example/ml@{ABSENT}", target)]


def test_a_stack_has_the_registry_of_its_settings(account: Account) -> None:
    local = load("local")
    assert isinstance(local, ExistingClusterSettings)
    with_registry = local.model_copy(update={"registry": "registry.example/team"})
    assert stack_with("local", with_registry, pytest.fail).registry().repository("ml") == "registry.example/team/ml"
    assert isinstance(stack_with("dev", load_filled("dev"), pytest.fail).registry(), Ecr)
    with pytest.raises(
        OperationError,
        match=r"^local has no registry, because its images are loaded onto its nodes: set airflow:registry",
    ):
        stack_with("local", local, pytest.fail).registry()
