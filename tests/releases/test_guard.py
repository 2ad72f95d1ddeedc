"""The checks before a deployment and before its record."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from infra.errors import OperationError
from infra.images.pinned import RELEASE_FILE
from infra.release import Release, ReleasedImage
from infra.settings import StackSettings, load
from ops.images import registries
from ops.images.ecr import NoRepositoryError
from ops.pulumi.deployment import Deployment
from ops.releases import database, recording
from ops.releases.deploy_checks import checked_release, previewed_release, with_release
from ops.releases.images import Images
from ops.releases.ledger import BRANCH, Ledger
from ops.releases.promotion import promote, promotion
from ops.releases.recording import record
from tests.programs import write_program

from .team import IMAGES, REVISIONS, Team, digest_of, stack_file


@pytest.fixture(autouse=True)
def built_images(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build fake images per commit, and return fixed revisions without Airflow."""

    def found(registry: registries.Registry, _: object) -> dict[str, ReleasedImage]:
        tag = team.clone.head()[:16]
        digests = {name: registry.digest(name, tag) for name in IMAGES}
        if None in digests.values():
            raise OperationError("the registry has no images of this commit's airflow, ml: run `make images`")
        return {
            name: ReleasedImage(repository=registry.repository(name), tag=tag, digest=str(digest))
            for name, digest in digests.items()
        }

    monkeypatch.setattr(recording, "built_images", found)
    monkeypatch.setattr(database, "revisions", lambda: REVISIONS)


def build(team: Team) -> None:
    commit = team.clone.head()
    for name in IMAGES:
        team.registry("dev").put(name, commit[:16], digest_of(f"{name} {commit}"))


def deploying(team: Team, stack: str, force: str | None = None) -> Release | None:
    return checked_release(team.clone, stack, load(stack, team.clone.folder), team.images, force)


def recorded(team: Team, stack: str) -> list[str]:
    said: list[str] = []
    record(team.clone, stack, team.images, said.append)
    return said


def check_out(team: Team, branch: str) -> None:
    team.git("fetch", "--quiet", "origin")
    team.git("checkout", "--quiet", "-B", branch, f"origin/{branch}")


@pytest.fixture
def staged(team: Team) -> Team:
    """A team whose release of dev was promoted to staging, with staging checked out."""
    build(team)
    recorded(team, "dev")
    with promotion(team.clone, "dev", "staging") as transition:
        promote(transition, team.images, lambda _: None)
    check_out(team, "staging")
    return team


def test_the_first_stack_is_deployed_with_the_images_that_were_built_and_recorded_as_that(team: Team) -> None:
    build(team)
    deployed = deploying(team, "dev")
    [said] = recorded(team, "dev")
    release = team.record("dev")
    assert release
    assert deployed
    assert release.runs_as(deployed)
    assert release.commit == team.clone.head()
    assert release.dags == team.git("rev-parse", "HEAD:dags")
    assert (release.airflow_version, release.database_revisions) == ("3.3.2", REVISIONS)
    assert release.chart.version == "1.22.0"
    assert release.images["ml"].digest == digest_of(f"ml {release.commit}")
    assert release.deployed_at
    assert said == f"{release.short} is the release of dev"


def test_a_release_that_is_recorded_already_keeps_its_time(team: Team) -> None:
    build(team)
    recorded(team, "dev")
    before = team.git("ls-remote", "origin")
    assert recorded(team, "dev")[0].startswith(f"{team.clone.head()[:12]} is already recorded in dev since ")
    assert team.git("ls-remote", "origin") == before


def test_images_that_were_not_built_stop_the_first_stack(team: Team) -> None:
    for attempt in (lambda: deploying(team, "dev"), lambda: recorded(team, "dev")):
        with pytest.raises(
            OperationError, match=r"^the registry has no images of this commit's airflow, ml: run `make i"
        ):
            attempt()


def test_a_stack_that_has_no_registry_yet_is_not_deployed(team: Team) -> None:
    def none_yet(stack: str, settings: StackSettings) -> registries.Registry:
        raise NoRepositoryError("it does not exist: run `make bootstrap`")

    images = Images(none_yet, team.images.copy, team.images.verify)
    with pytest.raises(NoRepositoryError, match="run `make bootstrap`"):
        checked_release(team.clone, "dev", load("dev", team.clone.folder), images)


def test_a_promoted_release_is_deployed_as_it_is_recorded(staged: Team) -> None:
    assert deploying(staged, "staging") == staged.record("staging")
    recorded(staged, "staging")
    release = staged.record("staging")
    assert release
    assert release.deployed_at
    assert release.promoted_from == "dev"


def test_a_stack_without_releases_is_deployed_from_anywhere(team: Team) -> None:
    settings = load("dev", team.clone.folder).model_copy(update={"release": None})
    (team.clone.folder / "mine").write_text("dirty")
    assert checked_release(team.clone, "dev", settings, team.images) is None


def dirty(team: Team) -> None:
    (team.clone.folder / "mine").write_text("dirty")


def feature(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "feature")


def detached(team: Team) -> None:
    team.git("checkout", "--quiet", "--detach")


def ahead(team: Team) -> None:
    team.commit({"mine": "1"}, push=None)


def behind(team: Team) -> None:
    team.commit({"theirs": "1"}, push="staging")
    team.git("reset", "--quiet", "--hard", "HEAD~1")


def by_hand(team: Team) -> None:
    team.commit({"theirs": "1"}, push="staging")


MISPLACED = [
    (dirty, r"^there are uncommitted changes \(mine\)"),
    (feature, r"^the branch feature is checked out, but staging follows staging: run `git checkout staging`"),
    (detached, r"^a detached HEAD is checked out, but staging follows staging: run `git checkout staging`"),
    (
        ahead,
        r"^staging has 1 commit that origin does not have: push to the first branch of the chain, or return",
    ),
    (behind, r"^staging is 1 commit behind origin/staging: run `git pull --ff-only origin staging`"),
    (
        by_hand,
        r"^the release of staging is \w{12}, but \w{12} is checked out: move the branch and the record together with",
    ),
]


@pytest.mark.parametrize(("go", "sentence"), MISPLACED)
def test_a_deployment_from_another_state_of_the_clone_is_refused(
    staged: Team, go: Callable[[Team], None], sentence: str
) -> None:
    go(staged)
    before = staged.git("ls-remote", "origin")
    with pytest.raises(
        OperationError, match=sentence + '.*; or skip the checks with FORCE="reason", which is recorded$'
    ):
        deploying(staged, "staging")
    with pytest.raises(OperationError, match=sentence):
        recorded(staged, "staging")
    assert staged.git("ls-remote", "origin") == before


def test_a_first_deployment_is_led_through_branch_commit_and_push(team: Team) -> None:
    def refused(sentence: str) -> None:
        with pytest.raises(OperationError, match=sentence):
            deploying(team, "dev")

    team.git("push", "--quiet", "origin", "--delete", "dev")
    team.git("branch", "--quiet", "--move", "dev", "main")
    refused(r"^the branch main is checked out, but dev follows dev: run `git checkout -b dev`;")
    team.git("checkout", "--quiet", "-b", "dev")
    (team.clone.folder / "Pulumi.dev.yaml").write_text(stack_file("dev", {}) + "# my own\n")
    refused(r"^there are uncommitted changes \(Pulumi.dev.yaml\): commit them")
    team.commit({}, push=None)
    refused(r"^origin has no branch dev: run `git push origin dev`")
    team.git("push", "--quiet", "origin", "dev")
    team.commit({"more": "1"}, push=None)
    refused(r"^dev has 1 commit that origin does not have: run `git push origin dev`, or return")
    team.git("push", "--quiet", "origin", "dev")
    build(team)
    assert deploying(team, "dev")


def test_a_branch_that_the_remote_lacks_is_named(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "main")
    with pytest.raises(OperationError, match=r"^origin has no branch main: run `git push origin main`"):
        deploying(team, "prod")


def test_a_stack_without_a_promoted_release_is_not_deployed(team: Team) -> None:
    team.git("push", "--quiet", "origin", "HEAD:refs/heads/staging")
    check_out(team, "staging")
    with pytest.raises(
        OperationError, match=r"^no release was promoted to staging yet: run `make promote FROM=dev TO=staging` first"
    ):
        deploying(team, "staging")


def test_a_forced_deployment_is_recorded_and_no_longer_counts_as_the_release(staged: Team) -> None:
    recorded(staged, "staging")
    before = staged.record("staging")
    dirty(staged)
    release = deploying(staged, "staging", "it burns")
    after = staged.record("staging")
    assert before
    assert after
    assert release
    assert release.images == before.images
    assert after.forced_by == f"Ada <ada@example.org>, from {before.short}: it burns"
    assert after.deployed_at is None
    assert Ledger(staged.clone).history("staging")[0].message == "Deploy staging past the checks: it burns"
    (staged.clone.folder / "mine").unlink()
    recorded(staged, "staging")
    mended = staged.record("staging")
    assert mended
    assert mended.forced_by is None
    assert mended.deployed_at


def test_a_forced_deployment_of_a_stack_without_a_record_is_in_the_history(team: Team) -> None:
    build(team)
    dirty(team)
    assert deploying(team, "dev", "the first")
    assert team.record("dev") is None
    team.git("fetch", "--quiet", "origin", BRANCH)
    assert team.git("log", "--format=%s", "FETCH_HEAD") == "Deploy dev past the checks: the first"


def test_force_is_not_recorded_if_all_checks_pass(staged: Team) -> None:
    deploying(staged, "staging", "to be sure")
    record = staged.record("staging")
    assert record
    assert record.forced_by is None


def test_a_preview_shows_the_release_where_there_is_one(staged: Team) -> None:
    def preview(stack: str) -> Release | None:
        return previewed_release(staged.clone, stack, load(stack, staged.clone.folder), staged.images)

    assert preview("staging") == staged.record("staging")
    assert preview("prod") is None
    staged.commit({"new": "1"}, push=None)
    assert preview("dev") is None  # its images are not built
    build(staged)
    release = preview("dev")
    assert release
    assert release.commit == staged.clone.head()


def test_the_program_finds_the_record_as_long_as_pulumi_runs(staged: Team, tmp_path: Path) -> None:
    program = write_program(
        tmp_path / "pulumi",
        f'#!/bin/sh\ncp "${RELEASE_FILE}" "{tmp_path}/seen"\necho "${RELEASE_FILE}" > "{tmp_path}/name"\n',
    )
    release = staged.record("staging")
    with with_release(Deployment("staging", str(program), {}), release) as deployment:
        deployment.run("preview")
    assert Release.model_validate(yaml.safe_load((tmp_path / "seen").read_text())) == release
    assert not Path((tmp_path / "name").read_text().strip()).exists()


def test_without_a_release_the_program_finds_none_of_the_users_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'#!/bin/sh\necho "${{{RELEASE_FILE}-none}}" > "{tmp_path}/seen"\n'
    program = write_program(tmp_path / "pulumi", text)
    monkeypatch.setenv(RELEASE_FILE, os.devnull)
    with with_release(Deployment("local", str(program), {}), None) as deployment:
        deployment.run("preview")
    assert (tmp_path / "seen").read_text() == "none\n"
