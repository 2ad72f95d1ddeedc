"""The steps of the commands, their order, and interruptions, without a cluster and Pulumi."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.preview_names import stack_name
from infra.previews import settings as preview_settings
from infra.previews.settings import load_preview
from infra.settings import SettingsError, StackSettings, load, load_aws
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.previews import environment, garbage_collection, removal
from ops.previews.base import records_of
from ops.previews.environment import bring_up, keep_record
from ops.previews.garbage_collection import collect, lines, list_environments
from ops.previews.records import Record, Records
from ops.previews.removal import remove
from ops.pulumi import local_state
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.preview_stack import PreviewStack
from ops.stacks.resolve import stack_with
from ops.stacks.stack import Stack

from .conftest import NOW, record_of, settings_of

STEPS = ["select", "destroy --yes", "drop", "objects", "branch", "stack rm"]


@dataclass
class FakeDeployment:
    """A fake of Pulumi; `fails` is a word of the command that fails."""

    world: World
    stack: str

    def run(self, *arguments: str, **_: object) -> None:
        self.world.do(" ".join(arguments[:2]), self.stack)

    def exported(self) -> dict[str, Any]:
        """Return a state without interrupted operations."""
        return {"deployment": {}}


@dataclass
class World:
    """A base whose cluster stores records, and that logs every other step."""

    cluster: Cluster
    stack: str = "local"
    settings: StackSettings = field(default_factory=lambda: load("local"))
    fails: str = ""
    done: list[tuple[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    on: Callable[[str], None] = lambda _: None

    @property
    def base(self) -> PlatformStack:
        base = stack_with(self.stack, self.settings, self.said.append)
        vars(base).update(
            cluster=self.cluster, preview_deployment=self.preview_deployment, delete_resources=self.delete_resources
        )
        return base

    @property
    def records(self) -> Records:
        return records_of(self.base)

    def preview_deployment(self, stack: str) -> FakeDeployment:
        self.do("select", stack)
        return FakeDeployment(self, stack)

    def delete_resources(self, deployment: FakeDeployment, namespaces: Sequence[str]) -> None:
        assert namespaces == (deployment.stack, f"{deployment.stack}-tasks")
        deployment.run("destroy", "--yes")

    def do(self, what: str, stack: str) -> None:
        self.done.append((what, stack))
        self.on(what)
        if what == self.fails:
            raise OperationError(f"{what} fails")

    @property
    def steps(self) -> list[str]:
        return [what for what, _ in self.done]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for stack files."""
    (tmp_path / "Pulumi.local.yaml").write_text((REPOSITORY / "Pulumi.local.yaml").read_text())

    def file_of(stack: str, folder: Path = tmp_path) -> Path:
        return folder / f"Pulumi.{stack}.yaml"

    for module in (environment, removal, garbage_collection, preview_settings):
        monkeypatch.setattr(module, "file_of", file_of)
    monkeypatch.setattr(garbage_collection, "REPOSITORY", tmp_path)
    monkeypatch.setattr(garbage_collection, "load_preview", lambda stack: load_preview(stack, tmp_path))
    monkeypatch.setattr(local_state, "FOLDER", tmp_path / "state")
    return tmp_path


@pytest.fixture
def world(records: Records, clone: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(records.cluster)

    def step(name: str) -> Callable[..., None]:
        def take(_: PlatformStack, stack: str, *__: object) -> None:
            world.do(name, stack)

        return take

    def push(stack: Stack, _: Echo, revision: str) -> None:
        world.do(f"push {revision} to {stack.diagnosis.branch}", stack.name)

    def check_exists(branch: str, repository: str | None) -> None:
        world.do(f"look for {branch} in {repository}", "")

    monkeypatch.setattr("ops.airflow.dags.push", push)
    monkeypatch.setattr(environment, "check_exists", check_exists)
    monkeypatch.setattr(environment, "check_preview_images", lambda *_: world.do("images", ""))
    monkeypatch.setattr(removal, "drop_databases", step("drop"))
    monkeypatch.setattr(removal, "delete_objects", step("objects"))
    monkeypatch.setattr(removal, "_delete_branch", step("branch"))
    return world


def up(world: World, branch: str = "feature/x", hours: float = 72) -> str:
    return bring_up(world.base, branch, hours, world.said.append).stack


def there(world: World, *branches: str, expires_at: datetime = NOW) -> list[Record]:
    found = [settings_of(branch=branch, expires_at=expires_at) for branch in branches]
    return [world.records.save(record_of(settings)) for settings in found]


def keep(world: World, branch: str = "feature/x", hours: float = 72, now: datetime = NOW) -> Record:
    return keep_record(world.base, branch, hours, now)


def take_down(world: World, record: Record) -> None:
    remove(world.base, record, world.said.append)


def gc(world: World, now: datetime) -> None:
    collect(world.base, now, world.said.append)


def test_an_environment_is_recorded_before_anything_of_it_is_made(world: World, clone: Path) -> None:
    recorded: list[str] = []
    world.on = lambda _: recorded.extend(record.stack for record in world.records.all())
    stack = up(world)
    assert world.steps == [
        "look for feature/x in None",
        f"push refs/heads/feature/x to {stack}",
        "images",
        "select",
        "up --yes",
    ]
    assert len(recorded) == len(world.done) - 1
    assert load_preview(stack, clone).branch == "feature/x"


def test_a_missing_branch_leaves_nothing(world: World, clone: Path) -> None:
    world.fails = "look for feature/x in None"
    with pytest.raises(OperationError):
        up(world)
    assert world.records.all() == []
    assert sorted(file.name for file in clone.iterdir()) == ["Pulumi.local.yaml"]


def test_a_branch_of_a_repository_is_looked_for_there_and_pushed_nowhere(world: World, clone: Path) -> None:
    settings = load_aws("dev")
    larger = settings.database.model_copy(update={"instance_class": "db.t4g.small"})
    world.stack, world.settings = "dev", settings.model_copy(update={"database": larger})
    (clone / "Pulumi.dev.yaml").write_text("encryptedkey: AQID\n")
    stack = up(world)
    assert world.steps[0] == "look for feature/x in https://github.com/example/airflow-on-kubernetes.git"
    assert not [step for step in world.steps if step.startswith("push")]
    assert (clone / f"Pulumi.{stack}.yaml").read_text().endswith("encryptedkey: AQID\n")


def test_a_deployment_that_fails_stays_recorded_so_that_it_can_be_removed(world: World) -> None:
    world.fails = "up --yes"
    with pytest.raises(OperationError):
        up(world)
    assert [record.stack for record in world.records.all()] == [stack_name("local", "feature/x")]


def test_a_second_run_extends_the_lifetime_and_keeps_owner_and_age(world: World) -> None:
    there(world, "feature/x", expires_at=NOW + timedelta(hours=1))
    record = keep(world, hours=72, now=NOW)
    assert record.settings.expires_at == NOW + timedelta(hours=72)
    assert (record.settings.owner, record.created_at) == ("Ada", NOW)
    assert keep(world, hours=1, now=NOW).settings.expires_at == NOW + timedelta(hours=72)


def test_an_invalid_record_is_rewritten(world: World) -> None:
    stack = stack_name("local", "feature/x")
    world.records.save(Record(stack, "config: ["))
    assert keep(world).settings.branch == "feature/x"


def test_an_environment_that_is_being_removed_is_not_made_again_meanwhile(world: World) -> None:
    [record] = there(world, "feature/x")
    world.records.begin_removal(record)
    with pytest.raises(
        OperationError, match=r"is being removed: .* `make preview-env-down BRANCH=feature/x STACK=local`"
    ):
        keep(world)


def test_the_limit_is_checked_before_anything_is_written(world: World) -> None:
    there(world, *"abcde")
    with pytest.raises(OperationError, match="local has 5 preview environments, and its max_previews is 5"):
        keep(world)
    assert len(world.records.all()) == 5
    assert keep(world, branch="e").settings.branch == "e"


def test_a_removal_deletes_everything_and_the_record_last(world: World, clone: Path) -> None:
    [record] = there(world, "feature/x")
    seen: list[bool] = []
    world.on = lambda _: seen.extend(record.removing for record in world.records.all())
    take_down(world, record)
    assert world.steps == STEPS
    assert {stack for _, stack in world.done} == {record.stack}
    assert seen == [True] * len(STEPS)
    assert world.records.all() == []
    assert sorted(file.name for file in clone.iterdir()) == ["Pulumi.local.yaml"]
    assert world.said[-1] == f"{record.stack} is removed"


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_removal_stays_recorded_and_can_be_continued(world: World, step: str) -> None:
    [record] = there(world, "feature/x")
    world.fails = step
    with pytest.raises(OperationError):
        take_down(world, record)
    [left] = world.records.all()
    assert left.removing
    world.fails, world.done = "", []
    take_down(world, left)
    assert world.steps == STEPS
    assert world.records.all() == []


def test_a_base_without_a_git_server_of_its_own_keeps_its_branches(world: World) -> None:
    world.stack, world.settings = "dev", load_aws("dev")
    take_down(world, there(world, "feature/x")[0])
    assert "branch" not in world.steps


def test_only_what_is_expired_is_removed(world: World) -> None:
    there(world, "old", "older", expires_at=NOW)
    there(world, "young", expires_at=NOW + timedelta(minutes=1))
    gc(world, NOW)
    assert [record.settings.branch for record in world.records.all()] == ["young"]
    assert f"{stack_name('local', 'young')} is kept until 2026-11-21 12:01 UTC" in world.said


def test_an_interrupted_removal_is_finished(world: World) -> None:
    [record] = there(world, "feature/x", expires_at=NOW + timedelta(days=1))
    world.records.begin_removal(record)
    gc(world, NOW)
    assert world.records.all() == []


def test_a_failure_does_not_stop_the_others_and_is_reported_at_the_end(world: World) -> None:
    broken, *_ = there(world, "a", "b", "c")

    def fail(what: str) -> None:
        if world.done[-1] == ("drop", broken.stack):
            raise OperationError("the database cannot be dropped")

    world.on = fail
    with pytest.raises(OperationError, match=r"^1 preview environments of local could not be removed"):
        gc(world, NOW)
    assert [record.stack for record in world.records.all()] == [broken.stack]
    assert f"{broken.stack} could not be removed: the database cannot be dropped" in world.said


def test_an_invalid_record_does_not_stop_the_others(world: World) -> None:
    world.records.save(Record("preview-broken-123456", "config: {}"))
    there(world, "a")
    with pytest.raises(OperationError, match=r"^1 preview environments"):
        gc(world, NOW)
    assert [record.stack for record in world.records.all()] == ["preview-broken-123456"]
    with pytest.raises(SettingsError):
        load("preview-broken-123456")


def test_the_list_shows_branch_owner_age_and_expiry(world: World) -> None:
    there(world, "feature/x", expires_at=NOW + timedelta(days=3))
    there(world, "y", expires_at=NOW + timedelta(hours=5))
    [removing] = there(world, "z")
    world.records.begin_removal(removing)
    world.records.save(Record("preview-broken-123456", ""))
    now = NOW + timedelta(minutes=90)
    found = [re.split(r"\s{2,}", line) for line in lines(world.records.all(), now)]
    rows = {row[0]: row[1:] for row in found}
    assert rows[stack_name("local", "feature/x")] == [
        "feature/x", "Ada", "90 min old", "2 d left, until 2026-11-24 12:00 UTC",
    ]  # fmt: skip
    assert rows[stack_name("local", "y")][-1] == "3 h left, until 2026-11-21 17:00 UTC"
    assert rows[stack_name("local", "z")][-1] == "being removed"
    assert rows["preview-broken-123456"][0] == "unreadable"


def test_a_list_writes_the_files_of_what_is_there_and_deletes_those_of_what_is_gone(world: World, clone: Path) -> None:
    there(world, "feature/x")
    for settings in (settings_of(branch="gone"), settings_of("dev", "of-another-base")):
        (clone / f"Pulumi.{settings.stack}.yaml").write_text(record_of(settings).text)
    (clone / "Pulumi.preview-broken-123456.yaml").write_text("config: [")
    list_environments(world.base, NOW, world.said.append)
    assert {file.name for file in clone.glob("Pulumi.preview-*")} == {
        f"Pulumi.{settings_of().stack}.yaml",
        f"Pulumi.{settings_of('dev', 'of-another-base').stack}.yaml",
        "Pulumi.preview-broken-123456.yaml",
    }
    [line] = world.said
    assert line.endswith("expired")


def test_an_empty_list_says_so(world: World) -> None:
    list_environments(world.base, NOW, world.said.append)
    assert world.said == ["local has no preview environments"]


def test_an_environments_airflow_has_its_own_namespace_and_the_bases_servers(world: World) -> None:
    settings = settings_of()
    found = PreviewStack(world.base, settings)
    assert found.namespaces == ("airflow-platform", settings.stack, f"{settings.stack}-tasks")
    assert (found.namespace, found.name, found.git_server) == (settings.stack, settings.stack, "git-0")
    assert found.diagnosis.branch == settings.stack
    # Missing images are built with a command for the base.
    assert found.diagnosis.stack == "local"


def test_an_environment_on_aws_follows_its_branch_in_the_bases_repository(world: World) -> None:
    world.stack, world.settings = "dev", load_aws("dev")
    found = PreviewStack(world.base, settings_of("dev"))
    stack = settings_of("dev").stack
    assert found.namespaces == (stack, f"{stack}-tasks")
    assert found.diagnosis.branch == "feature/x"
    assert found.git_server is None
