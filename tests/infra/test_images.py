"""Image tags, image builds, and the delivery of images to clusters."""

import base64
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.errors import OperationError
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import LIKE_THIS_MACHINE, Nodes, nodes_of
from infra.release import ReleasedImage
from infra.settings import ExistingClusterSettings, load
from infra.settings.stack_summaries import StackSummary
from ops.aws.account import Account
from ops.cli.images import images, sign
from ops.images import build as building
from ops.images import tools
from ops.images.build import build, build_context, with_bases
from ops.images.built import read_built
from ops.images.ecr import Ecr
from ops.images.node_images import ClusterNodes, load_command
from ops.images.tools import Tool, available_tool
from ops.stacks.resolve import stack_with
from tests.programs import write_program

REPOSITORY = Path(__file__).parents[2]
DIGEST = f"sha256:{'a' * 64}"
GPU_NODES = Nodes("amd64", gpus=True)

# A program that records its calls and keeps images in the folder `images`.
FAKE_TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> "$FAKE_TOOLS/calls"
case "$1" in
  info) [ ! -e "$FAKE_TOOLS/broken" ] && printf '{"DockerRootDir": "%s"}' "$FAKE_TOOLS" ;;
  inspect) [ "$2" = --type ] && { grep -qxF "$4" "$FAKE_TOOLS/images"; exit; }
    printf '["other@sha256:1", "%s@%s"]' "${4%:*}" "$FAKE_DIGEST" ;;
  push) [ "$2" = --digestfile ] && printf %s "$FAKE_DIGEST" > "$3"; true ;;
  build) [ ! -e "$FAKE_TOOLS/failing" ] && echo "$3" >> "$FAKE_TOOLS/images" ;;
  login) cat > "$FAKE_TOOLS/password" ;;
esac
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of three images: `above` is based on `base`, `other` is independent."""
    root = tmp_path / "repository"
    write(root / "images/base/Dockerfile", "FROM debian:12\nCOPY shared/ /shared/\nCOPY --chmod=755 \\\n  tool.sh /\n")
    write(root / "images/above/Dockerfile", "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY above.txt /\n")
    write(root / "images/other/Dockerfile", "FROM debian:12\nCOPY --from=base /x /x\nCOPY other.txt /\n")
    for name in ("shared/a.txt", "shared/deep/b.txt", "tool.sh", "above.txt", "other.txt"):
        write(root / name, name)
    return root


def tags(root: Path, nodes: Nodes = LIKE_THIS_MACHINE) -> dict[str, str]:
    return {name: content.tag(name, root, nodes) for name in content.names(root)}


def changed(root: Path, change: Callable[[], object]) -> set[str]:
    """Return the images whose tag a change alters."""
    before = tags(root)
    change()
    after = tags(root)
    return {name for name in before if before[name] != after[name]}


def test_an_image_comes_after_its_base(root: Path) -> None:
    assert content.names(root) == ["base", "above", "other"]
    assert content.bases("above", root) == {"BASE_IMAGE": "base"}


def test_the_files_of_an_image_are_its_dockerfile_and_the_files_it_copies(root: Path) -> None:
    found = [str(file.relative_to(root)) for file in content.files("base", root)]
    assert found == ["images/base/Dockerfile", "shared/a.txt", "shared/deep/b.txt", "tool.sh"]


def test_a_change_alters_the_tags_of_images_with_the_file_and_of_those_based_on_them(root: Path) -> None:
    assert changed(root, lambda: write(root / "shared/deep/b.txt", "new")) == {"base", "above"}
    assert changed(root, lambda: write(root / "shared/new.txt", "")) == {"base", "above"}
    assert changed(root, lambda: (root / "shared/a.txt").rename(root / "shared/c.txt")) == {"base", "above"}
    assert changed(root, lambda: (root / "tool.sh").chmod(0o755)) == {"base", "above"}
    assert changed(root, lambda: write(root / "above.txt", "new")) == {"above"}
    assert changed(root, lambda: write(root / "images/other/Dockerfile", "FROM debian:13\n")) == {"other"}


def test_nothing_else_alters_a_tag(root: Path, tmp_path: Path) -> None:
    def same_again() -> None:
        write(root / "README.md", "new")
        write(root / "shared/__pycache__/a.pyc", "compiled")
        os.utime(root / "above.txt", (1, 1))
        (root / "above.txt").chmod(0o600)

    assert changed(root, same_again) == set()
    elsewhere = tmp_path / "a clone" / "with another name"
    shutil.copytree(root, elsewhere)
    assert tags(elsewhere) == tags(root)


def test_a_tag_is_short_and_valid_in_registries(root: Path) -> None:
    for tag in tags(root).values():
        assert len(tag) == 16
        int(tag, 16)


def test_a_missing_copied_path_is_named(root: Path) -> None:
    (root / "above.txt").unlink()
    with pytest.raises(ImageError, match=r"images/above/Dockerfile copies above\.txt, which does not exist"):
        content.tag("above", root)


def test_gpu_nodes_alter_only_the_ml_image_and_another_architecture_alters_all() -> None:
    plain, gpus, arm = (tags(REPOSITORY, nodes) for nodes in (Nodes("amd64"), GPU_NODES, Nodes("arm64")))
    assert {name for name in plain if plain[name] != gpus[name]} == {"ml"}
    assert {name for name in plain if plain[name] != arm[name]} == set(plain)


def test_the_nodes_of_a_stack_are_those_of_its_settings() -> None:
    assert nodes_of("dev") == GPU_NODES
    assert nodes_of("local") == Nodes()
    assert Nodes("amd64").arguments("ml") == {"TORCH_BACKEND": "cpu"}
    assert GPU_NODES.arguments("ml") == {"TORCH_BACKEND": ""}


def test_images_are_for_the_nodes_of_all_stacks_that_run_them(tmp_path: Path) -> None:
    assert Nodes.of([StackSummary(architecture="arm64"), StackSummary(architecture="arm64", has_gpus=True)]) == Nodes(
        "arm64", gpus=True
    )
    assert Nodes.of([StackSummary(), StackSummary(architecture="amd64")]) == Nodes("amd64")
    for stack in ("dev", "staging", "prod"):
        config = yaml.safe_load((REPOSITORY / f"Pulumi.{stack}.yaml").read_text())
        if stack != "prod":
            del config["config"]["airflow:node_pools"]["gpu"]
        write(tmp_path / f"Pulumi.{stack}.yaml", yaml.safe_dump(config))
    assert {nodes_of(stack, tmp_path) for stack in ("dev", "staging", "prod")} == {GPU_NODES}
    (tmp_path / "Pulumi.prod.yaml").unlink()
    assert {nodes_of(stack, tmp_path) for stack in ("dev", "staging")} == {Nodes("amd64")}


def test_the_build_context_has_the_files_of_the_tag_and_is_reproducible(root: Path) -> None:
    (root / "tool.sh").chmod(0o700)
    (root / "above.txt").chmod(0o600)
    write(root / "shared/__pycache__/a.pyc", "compiled")
    with build_context("base", root) as folder:
        found = {path.relative_to(folder): path for path in folder.rglob("*")}
        files = {relative for relative, path in found.items() if path.is_file()}
        assert files == {file.relative_to(root) for file in content.files("base", root)}
        assert stat.S_IMODE(found[Path("tool.sh")].stat().st_mode) == 0o755
        assert stat.S_IMODE(found[Path("shared/a.txt")].stat().st_mode) == 0o644
        assert {path.stat().st_mtime for path in found.values()} == {0}
    assert not folder.exists()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fakes of Docker, Podman and Buildah that record their calls."""
    folder = tmp_path / "programs"
    for name in tools.TOOLS:
        write_program(folder / name, FAKE_TOOL)
    write(folder / "images", "")
    write(folder / "calls", "")
    monkeypatch.setenv("FAKE_TOOLS", str(folder))
    monkeypatch.setenv("FAKE_DIGEST", DIGEST)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=100 * 2**30))
    for name in ("BUILDER", "IMAGE_LOAD", "IMAGE_BUILD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return folder


def calls(programs: Path, verb: str) -> list[str]:
    return [line for line in (programs / "calls").read_text().splitlines() if line.split()[1] == verb]


class FakeDestination:
    """A destination that records the delivered images."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.delivered: list[str] = []

    def repository(self, image: str) -> str:
        return f"registry.example/{image}"

    def has(self, name: str) -> bool:
        return any(name.startswith(f"{self.repository(image)}:") for image in self.there)

    def deliver(self, tool: Tool, name: str) -> str:
        self.delivered.append(name.rpartition(":")[0].rpartition("/")[2])
        return tool.push(name)


def silent(_line: str) -> None:
    """Discard the message."""


def test_docker_comes_before_podman_and_podman_before_buildah(programs: Path) -> None:
    found = []
    for name in tools.TOOLS:
        found.append(available_tool().name)
        (programs / name).unlink()
    assert tuple(found) == tools.TOOLS


def test_the_build_program_can_be_chosen(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER", "buildah")
    assert available_tool().name == "buildah"
    monkeypatch.setenv("BUILDER", "make")
    with pytest.raises(ImageError, match="BUILDER=make is not supported: set it to one of docker, podman, buildah"):
        available_tool()


def test_without_a_working_build_program_nothing_is_built(programs: Path) -> None:
    write(programs / "broken", "")
    with pytest.raises(ImageError, match="none of Docker, Podman and Buildah works on this machine"):
        build(FakeDestination(), Nodes(), silent)
    assert calls(programs, "build") == []


def test_every_image_is_built_after_its_base_and_delivered(programs: Path) -> None:
    destination = FakeDestination()
    build(destination, Nodes(), silent)
    assert destination.delivered == content.names()
    built = calls(programs, "build")
    airflow = f"registry.example/airflow:{content.tag('airflow')}"
    assert f"--build-arg AIRFLOW_IMAGE={airflow} " in built[1]
    assert "--build-arg TORCH_BACKEND=cpu " in built[1]
    assert "--build-arg SOURCE_DATE_EPOCH=0 " in built[0]
    assert "--platform" not in built[0]


def test_existing_images_are_neither_built_nor_delivered_again(programs: Path) -> None:
    destination = FakeDestination(*content.names())
    lines: list[str] = []
    build(destination, Nodes(), lines.append)
    assert (destination.delivered, lines) == ([], [f"all {len(content.names())} images are up to date"])
    assert (programs / "calls").read_text() == ""


def test_a_base_that_is_only_at_its_destination_is_built_locally_and_not_delivered(programs: Path) -> None:
    destination = FakeDestination(*(name for name in content.names() if name != "ml"))
    build(destination, Nodes(), silent)
    assert destination.delivered == ["ml"]
    assert [line.split()[3].rpartition(":")[0] for line in calls(programs, "build")] == [
        "registry.example/airflow",
        "registry.example/ml",
    ]
    assert with_bases(["ml"]) == ["airflow", "ml"]


def test_an_image_that_is_already_built_is_only_delivered(programs: Path) -> None:
    build(FakeDestination(), Nodes(), silent)
    (programs / "calls").write_text("")
    destination = FakeDestination()
    build(destination, Nodes(), silent)
    assert destination.delivered == content.names()
    assert calls(programs, "build") == []


def test_images_are_built_for_the_architecture_of_the_nodes(programs: Path) -> None:
    build(FakeDestination(), Nodes("arm64"), silent)
    assert all("--platform linux/arm64 " in line for line in calls(programs, "build"))


def test_variables_add_build_arguments_and_override_bases(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_BUILD_ARGS", "--network host --build-arg TORCH_BACKEND=")
    monkeypatch.setenv("BASE_IMAGE_SERVING", "mirror.example/python:3.12")
    build(FakeDestination(), Nodes(), silent)
    airflow, *_, serving, _zenml = calls(programs, "build")
    assert "--build-arg BASE_IMAGE=mirror.example/python:3.12 " in serving
    assert "BASE_IMAGE=" not in airflow
    assert " --network host --build-arg TORCH_BACKEND= " in airflow


def test_podman_and_buildah_set_the_time_of_files(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER", "podman")
    monkeypatch.setattr(building, "check_disk", lambda *_: None)
    build(FakeDestination(), Nodes(), silent)
    assert all(" --timestamp 0 " in line for line in calls(programs, "build"))


def test_a_failed_build_is_one_sentence_and_nothing_is_delivered(programs: Path) -> None:
    write(programs / "failing", "")
    destination = FakeDestination()
    with pytest.raises(
        ImageError,
        match=r"registry.example/airflow:\w+ could not be built \(see docker's output above\): fix the cause",
    ):
        build(destination, Nodes(), silent)
    assert destination.delivered == []


def test_no_build_starts_without_enough_disk_space(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=23 * 2**30))
    with pytest.raises(ImageError, match=r"the disk of .* has 23 GiB free, and the images need 26 GiB"):
        build(FakeDestination(), Nodes(), silent)
    assert calls(programs, "build") == []


def test_an_image_with_pytorch_needs_more_disk_space(tmp_path: Path) -> None:
    write(tmp_path / "requirements" / "torch.txt", "")
    write(tmp_path / "images" / "mine" / "Dockerfile", "FROM scratch\nCOPY requirements/torch.txt /opt/torch.txt\n")
    write(tmp_path / "images" / "thin" / "Dockerfile", "FROM scratch\n")
    assert building.needed_gib("thin", tmp_path) < building.needed_gib("mine", tmp_path)


@pytest.mark.parametrize(
    ("context", "command"),
    [
        ("kind-mine", "kind load image-archive image.tar --name mine"),
        ("k3d-my-own", "k3d image import image.tar --cluster my-own"),
        ("minikube", "minikube image load image.tar --profile minikube"),
    ],
)
def test_the_kind_of_cluster_decides_how_images_are_loaded(context: str, command: str) -> None:
    assert load_command(context, Path("image.tar")) == command.split()


def test_an_unknown_kind_of_cluster_requires_a_load_command(programs: Path) -> None:
    with pytest.raises(
        ImageError, match="unknown kind of cluster mine: set IMAGE_LOAD to a command that loads an image onto its nodes"
    ):
        ClusterNodes("mine").deliver(Tool("docker"), "localhost/x:1")
    assert calls(programs, "save") == []


def test_the_load_command_gets_both_names(programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loader = write_program(tmp_path / "load", f'#!/bin/sh\necho "$@" > {tmp_path}/loaded\n')
    monkeypatch.setenv("IMAGE_LOAD", f"{loader} onto-nodes")
    ClusterNodes("kind-mine").deliver(Tool("docker"), "localhost/x:1")
    assert (tmp_path / "loaded").read_text() == "onto-nodes localhost/x:1 localhost/x:1\n"


def test_a_loader_that_is_missing_or_fails_is_named(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="kind, which loads images onto the nodes, is not installed"):
        ClusterNodes("kind-mine").deliver(Tool("docker"), "localhost/x:1")
    monkeypatch.setenv("IMAGE_LOAD", "false")
    with pytest.raises(ImageError, match="`false localhost/x:1 localhost/x:1` failed"):
        ClusterNodes("kind-mine").deliver(Tool("docker"), "localhost/x:1")


@pytest.mark.parametrize(
    ("tool", "name", "command"),
    [
        ("docker", "127.0.0.1:5000/x:1", "push 127.0.0.1:5000/x:1"),
        ("buildah", "127.0.0.1:5000/x:1", "push --digestfile FILE --tls-verify=false 127.0.0.1:5000/x:1"),
        ("podman", "localhost:5000/x:1", "push --digestfile FILE --tls-verify=false localhost:5000/x:1"),
        ("podman", "10.0.0.1:5000/x:1", "push --digestfile FILE 10.0.0.1:5000/x:1"),
        ("buildah", "registry.example/x:1", "push --digestfile FILE registry.example/x:1"),
    ],
)
def test_only_a_registry_on_this_machine_may_use_http(programs: Path, tool: str, name: str, command: str) -> None:
    assert Tool(tool).push(name) == DIGEST
    [call] = calls(programs, "push")
    assert re.sub(r"/\S+/digest", "FILE", call) == f"{tool} {command}"


def test_pushed_images_are_recorded_with_the_digest_from_the_tool(programs: Path, tmp_path: Path) -> None:
    built = tmp_path / "built.json"
    build(FakeDestination(*(name for name in content.names() if name != "serving")), Nodes(), silent, built)
    tag = content.tag("serving")
    image = ReleasedImage(repository="registry.example/serving", tag=tag, digest=DIGEST)
    assert read_built(built) == {"serving": image}
    build(FakeDestination(*content.names()), Nodes(), silent, built)
    assert read_built(built) == {}


def test_images_pushed_before_a_failure_are_recorded(programs: Path, tmp_path: Path) -> None:
    class Full(FakeDestination):
        def deliver(self, tool: Tool, name: str) -> str:
            if self.delivered:
                raise ImageError("no room")
            return super().deliver(tool, name)

    with pytest.raises(ImageError, match="no room"):
        build(Full(), Nodes(), silent, tmp_path / "built.json")
    assert read_built(tmp_path / "built.json").keys() == {"airflow"}


@pytest.mark.parametrize(("text", "reason"), [(None, "No such file or directory"), ("{]", "1 validation error")])
def test_an_invalid_record_of_built_images_is_one_sentence(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "built.json"
    if text:
        file.write_text(text)
    with pytest.raises(
        ImageError, match=rf"^BUILT=.*built.json cannot be read \({reason}.*\): set BUILT to the file that `make"
    ):
        read_built(file)


@pytest.mark.parametrize("command", [images, sign])
def test_images_of_another_stack_are_neither_built_nor_signed_again(command: Callable[[str], None]) -> None:
    with pytest.raises(
        OperationError,
        match=r"^prod runs the images of staging, which are not rebuilt: copy them with `make promote FROM=staging TO=",
    ):
        command("prod")


def test_only_images_built_by_a_run_are_signed() -> None:
    with pytest.raises(
        ImageError, match=r"^only images built in this run are signed: set BUILT to the file that `make images"
    ):
        sign("dev")


def test_preview_images_are_refused_for_a_stack_without_preview_environments() -> None:
    with pytest.raises(OperationError, match=r"^staging runs the images of dev, which are not rebuilt"):
        images("staging", preview=True)


def test_clusters_that_share_dockers_images_need_no_loading(programs: Path) -> None:
    ClusterNodes("docker-desktop").deliver(Tool("docker"), "localhost/x:1")
    assert (programs / "calls").read_text() == ""


def test_images_go_to_the_repositories_of_the_stack(account: Account, repositories: Any) -> None:
    address = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/airflow-dev/ml"
    assert Ecr("dev", account).repository("ml") == address


def test_preview_images_and_signed_images_have_separate_repositories(account: Account, repositories: Any) -> None:
    repositories.create_repository(repositoryName="airflow-dev/previews/ml")
    ecr = Ecr("dev", account, previews=True)
    assert ecr.repository("ml").endswith("/airflow-dev/previews/ml")
    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)
    with_registry = settings.model_copy(update={"registry": "registry.example/team"})
    previews = stack_with("local", with_registry, pytest.fail).registry(previews=True)
    assert previews.repository("ml") == "registry.example/team/previews/ml"
    with pytest.raises(OperationError, match="has no registry"):
        stack_with("local", settings, pytest.fail).registry(previews=True)


def test_an_image_in_its_repository_is_found(account: Account, repositories: Any) -> None:
    ecr = Ecr("dev", account)
    name = f"{ecr.repository('ml')}:0123456789abcdef"
    assert not ecr.has(name)
    manifest = '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}'
    repositories.put_image(repositoryName="airflow-dev/ml", imageManifest=manifest, imageTag="0123456789abcdef")
    assert ecr.has(name)
    assert not ecr.has(f"{ecr.repository('ml')}:0123456789abcdee")


def test_a_missing_repository_is_named(account: Account) -> None:
    with pytest.raises(
        ImageError, match="the ECR repository airflow-dev/ml does not exist: create it with `make bootstrap STACK=dev`"
    ):
        Ecr("dev", account).repository("ml")


def test_the_registrys_password_is_passed_once_and_through_stdin(
    account: Account, repositories: Any, programs: Path
) -> None:
    ecr = Ecr("dev", account)
    for image in ("airflow", "ml"):
        ecr.deliver(Tool("docker"), f"{ecr.repository(image)}:1")
    [login] = calls(programs, "login")
    [token] = repositories.get_authorization_token()["authorizationData"]
    user, password = base64.b64decode(token["authorizationToken"]).decode().split(":", 1)
    assert login == f"docker login --username {user} --password-stdin 123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert (programs / "password").read_text() == password
    assert len(calls(programs, "push")) == 2


def test_the_command_fails_with_one_sentence_and_an_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ops", "images", "local"]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    refused = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: no Kubernetes context is selected")
    assert len(refused.stderr.splitlines()) == 1
