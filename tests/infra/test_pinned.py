"""The images of pods: those of the release, or else those of the working tree."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pulumi
import pytest
import yaml

from infra.airflow import values
from infra.documents import REPOSITORY
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import Nodes, nodes_of
from infra.images.pinned import RELEASE_FILE, pinned, read_release, versions
from infra.release import Chart, Release, ReleasedImage
from infra.settings import PROJECT
from ops.plan.manifests import Object, objects, pods
from ops.plan.recording import record
from ops.plan.resources import Recording

REGISTRY = "registry.example.com/ml"
DAGS = {"repository": "git://git.example.com/dags.git", "branch": "dev", "folder": "pipelines"}


def digest(name: str) -> str:
    return f"sha256:{name.encode().hex():0<64}"


def release(stack: str, repository: str = REGISTRY, **changes: Any) -> Release:
    images = {
        name: ReleasedImage(repository=f"{repository}/{name}", tag="0123456789abcdef", digest=digest(name))
        for name in content.names()
    }
    fields: dict[str, Any] = {
        "stack": stack,
        "commit": "1" * 40,
        "dags": "2" * 40,
        "chart": Chart(version="1.22.0", sha256="3" * 64),
        "airflow_version": "3.3.2",
        "database_revisions": {},
        "images": images,
        "recorded_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Release(**(fields | changes))


def write(folder: Path, content: Release) -> Path:
    file = folder / "release.yaml"
    file.write_text(yaml.safe_dump(content.model_dump(mode="json")))
    return file


@dataclass(frozen=True)
class Planned:
    """The resources of a stack, with the chart rendered."""

    recording: Recording
    objects: tuple[Object, ...]

    @classmethod
    def of(cls, recording: Recording) -> Self:
        return cls(recording, tuple(objects(recording)))

    @property
    def images(self) -> set[str]:
        """The images of containers that the repository builds."""
        found = {
            container["image"]
            for item in self.objects
            for pod in pods(item)
            for container in (*pod.get("initContainers", ()), *pod["containers"])
        }
        own = {f"/{name}:" for name in content.names()}
        return {image for image in found if any(name in image for name in own) and "apache/" not in image}

    @property
    def task_variables(self) -> dict[str, str]:
        """The variables of a task's pod."""
        template = next(item for item in self.objects if "pod_template_file.yaml" in item.get("data", {}))
        [container] = yaml.safe_load(template["data"]["pod_template_file.yaml"])["spec"]["containers"]
        return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def test_without_a_release_the_images_are_those_of_the_working_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RELEASE_FILE, raising=False)
    assert (
        versions("prod")
        == versions("dev")
        == {name: content.tag(name, nodes=Nodes("amd64", gpus=True)) for name in content.names()}
    )
    assert versions("local")["ml"] != versions("dev")["ml"]
    assert nodes_of("prod").gpus


def test_a_release_names_tags_and_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RELEASE_FILE, str(write(tmp_path, release("prod"))))
    assert versions("prod") == {name: f"0123456789abcdef@{digest(name)}" for name in content.names()}


def test_the_release_of_another_stack_is_refused() -> None:
    with pytest.raises(
        pulumi.RunError, match=r"^the release in RELEASE_FILE belongs to staging, not to prod: use its own$"
    ):
        pinned(release("staging"), "prod", content.names())


def test_a_release_of_other_images_is_refused() -> None:
    with pytest.raises(
        pulumi.RunError,
        match=r"^the release of prod has the images airflow, ml, mlflow, serving, but this commit builds airflow, new: "
        r"check out 111111111111, the commit of the release$",
    ):
        pinned(release("prod"), "prod", ["airflow", "new"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory"),
        ("", "Input should be a valid dictionary or instance of Release"),
        ("stack: prod\n", "commit: Field required"),
        ("stack: [", "while parsing a flow"),
        ("\udcff", "invalid start byte"),
    ],
)
def test_a_file_that_is_no_release_is_one_sentence(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "release.yaml"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ImageError) as caught:
        read_release(file)
    assert str(caught.value).startswith(f"RELEASE_FILE names {file}, which is not a release record (")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_record_survives_writing_and_reading(tmp_path: Path) -> None:
    assert read_release(write(tmp_path, release("prod"))) == release("prod")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """The resources of prod with a release."""
    folder = tmp_path_factory.mktemp("release")
    return Planned.of(record("prod", reveal=True, release_file=write(folder, release("prod"))))


def test_every_pod_runs_the_digests_of_the_release(released: Planned) -> None:
    names = {image.rpartition("/")[2] for image in released.images}
    assert names == {f"{name}:0123456789abcdef@{digest(name)}" for name in ("airflow", "mlflow")}


@pytest.mark.parametrize("tag", ["0123456789abcdef", f"0123456789abcdef@{digest('ml')}"])
def test_the_chart_takes_a_digest_as_part_of_the_tag(tag: str) -> None:
    name = f"127.0.0.1:5000/team/ml:{tag}"
    assert (values.repository(name), values.tag(name)) == ("127.0.0.1:5000/team/ml", tag)


def test_tasks_get_the_digests_of_the_release_as_well(released: Planned) -> None:
    variables = released.task_variables
    for name in ("ml", "serving"):
        variable = variables[f"{name.upper()}_IMAGE"]
        assert variable.endswith(f"/airflow-prod/{name}:0123456789abcdef@{digest(name)}")


def test_a_plan_ignores_the_users_release_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RELEASE_FILE, str(write(tmp_path, release("staging"))))
    recording = record("local", reveal=True)
    assert "@sha256" not in recording.to_json()
    with pytest.raises(pulumi.RunError, match="belongs to staging, not to local"):
        record("local", release_file=tmp_path / "release.yaml")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A stack on an existing cluster with a registry, a repository and a release."""
    root = tmp_path_factory.mktemp("project")
    config = yaml.safe_load((REPOSITORY / "Pulumi.local.yaml").read_text())["config"]
    config |= {f"{PROJECT}:registry": REGISTRY, f"{PROJECT}:dags": DAGS, f"{PROJECT}:release": {}}
    (root / "Pulumi.own.yaml").write_text(yaml.safe_dump({"config": config}))
    (root / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    (root / "infra").symlink_to(REPOSITORY / "infra")
    return Planned.of(record("own", root, reveal=True, release_file=write(root, release("own"))))


def test_pods_pull_from_the_registry_in_the_settings(own: Planned) -> None:
    names = {name: image.name for name, image in release("own").images.items()}
    assert own.images == {names["airflow"], names["mlflow"]}
    assert own.recording.exports["images"] == names
    assert own.task_variables["ML_IMAGE"] == names["ml"]


def test_a_repository_in_the_settings_replaces_the_git_server(own: Planned) -> None:
    assert "GitServer" not in own.recording.to_json()
    assert {item.name for item in own.recording.of_type("kubernetes:apps/v1:StatefulSet")} == {"postgres", "s3"}
    [chart] = own.recording.of_type("kubernetes:helm.sh/v4:Chart")
    sync = chart.inputs["values"]["dags"]["gitSync"]
    assert (sync["repo"], sync["branch"], sync["subPath"]) == (DAGS["repository"], DAGS["branch"], DAGS["folder"])
