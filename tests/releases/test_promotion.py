"""Promotions between the stacks of a repository with a bare remote, and their refusals."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import yaml

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.releases.evidence import Evidence
from ops.releases.ledger import Ledger
from ops.releases.promotion import promote, promotion

from .team import NO_GATES, NOW, REVISIONS, Team, digest_of


def promoted(team: Team, source: str = "dev", target: str = "staging", confirm: str | None = None) -> list[str]:
    said: list[str] = []
    with promotion(team.clone, source, target) as transition:
        promote(transition, team.images, said.append, confirm)
    return said


def refused(team: Team, sentence: str, source: str = "dev", target: str = "staging") -> None:
    """Check that a promotion is refused with a sentence and changes nothing."""
    before = team.git("ls-remote", "origin")
    with pytest.raises(OperationError, match=sentence):
        promoted(team, source, target)
    assert team.git("ls-remote", "origin") == before
    assert not team.registry(target).folder.exists()


def test_a_release_without_the_key_of_a_stack_on_aws_is_refused(team: Team) -> None:
    config = yaml.safe_load((REPOSITORY / "Pulumi.staging.yaml").read_text())
    config["config"]["airflow:dags"] = {"repository": "https://git.example/team.git", "branch": "staging"}
    config["config"]["airflow:release"] = {"after": "dev", "gates": NO_GATES}
    team.commit({"Pulumi.staging.yaml": yaml.safe_dump(config)})
    release = team.release()
    refused(
        team,
        f"^Pulumi.staging.yaml in {release.short}, the release of dev, lacks the stack's encrypted key: run `make "
        "bootstrap STACK=staging`, commit the file to the first branch of the chain, and release that commit$",
    )
    team.commit({"Pulumi.staging.yaml": yaml.safe_dump(config | {"encryptedkey": "abc"})})
    team.release()
    assert promoted(team)[-1].startswith("promoted ")


def test_a_promotion_brings_commit_and_images_to_the_next_stack(team: Team) -> None:
    release = team.release()
    said = promoted(team)
    record = team.record("staging")
    assert record
    assert record.runs_as(release)
    assert (record.stack, record.promoted_from, record.deployed_at) == ("staging", "dev", None)
    assert record.dags == release.dags
    assert record.images["ml"].name == (f"staging.example/ml:{release.commit[:16]}@{digest_of(f'ml {release.commit}')}")
    assert all(team.registry("staging").has_digest(name, image.digest) for name, image in record.images.items())
    assert team.head("staging") == release.commit
    assert said == [
        f"promoted {release.short} from dev to staging: its DAGs run within seconds, deploy the rest with `make deploy "
        "STACK=staging` on "
        "staging"
    ]


def test_the_history_says_who_promoted_what(team: Team) -> None:
    release = team.release()
    promoted(team)
    [entry] = Ledger(team.clone).history("staging")
    assert (entry.message, entry.by) == (f"Promote {release.short} from dev to staging", "Ada <ada@example.org>")


def test_a_second_promotion_says_that_it_is_there_and_changes_nothing(team: Team) -> None:
    release = team.release()
    promoted(team)
    before = team.git("ls-remote", "origin")
    (team.clone.folder / "mine").write_text("dirty")
    assert promoted(team) == [f"staging already has {release.short}, the release of dev"]
    assert team.git("ls-remote", "origin") == before


def test_what_was_recorded_is_promoted_and_not_what_was_merged_since(team: Team) -> None:
    release = team.release()
    team.commit({"new": "1"})
    promoted(team)
    assert team.head("staging") == release.commit


def test_the_same_commit_with_other_images_is_promoted_again(team: Team) -> None:
    first = team.release()
    promoted(team)
    rebuilt = {name: image.model_copy(update={"tag": "rebuilt"}) for name, image in first.images.items()}
    rebuilt["ml"] = rebuilt["ml"].model_copy(update={"digest": digest_of("other")})
    for name, image in rebuilt.items():
        team.registry("dev").put(name, image.tag, image.digest)
    Ledger(team.clone).put_release(first.model_copy(update={"images": rebuilt}), first, "Rebuilt")
    promoted(team)
    record = team.record("staging")
    assert record
    assert record.images["ml"].digest == digest_of("other")


def test_a_release_goes_all_the_way(team: Team) -> None:
    release = team.release()
    promoted(team)
    Ledger(team.clone)
    staging = team.record("staging")
    assert staging
    Ledger(team.clone).put_release(staging.model_copy(update={"deployed_at": NOW}), staging, "Deployed")
    promoted(team, "staging", "prod")
    prod = team.record("prod")
    assert prod
    assert prod.runs_as(release)
    assert prod.promoted_from == "staging"
    assert team.head("main") == release.commit


def test_a_dirty_tree_is_refused_and_named(team: Team) -> None:
    team.release()
    for number in range(4):
        (team.clone.folder / f"file{number}").write_text("mine")
    refused(team, r"^there are uncommitted changes \(file0, file1, file2 and 1 more\): commit them, or stash them with")


def test_a_clone_that_is_behind_is_refused_with_the_fix(team: Team) -> None:
    first = team.clone.head()
    team.release(commit=team.commit({"new": "1"}))
    team.git("reset", "--quiet", "--hard", first)
    refused(team, r"^dev is 1 commit behind origin/dev: run `git pull --ff-only origin dev`$")


def test_a_diverged_clone_is_refused_with_the_fixes(team: Team) -> None:
    first = team.clone.head()
    commit = team.commit({"new": "1"})
    team.release(commit=commit)
    team.git("reset", "--quiet", "--hard", first)
    team.commit({"other": "1"}, push=None)
    refused(
        team,
        r"^dev and origin/dev have diverged \(1 commit only local, 1 commit only remote\): run `git pull --rebase "
        rf"origin dev`, or discard the local commits with `git reset --keep {commit[:12]}`$",
    )


def test_commits_that_are_only_here_do_not_matter(team: Team) -> None:
    release = team.release()
    team.commit({"new": "1"}, push=None)
    promoted(team)
    assert team.head("staging") == release.commit


def test_head_may_be_detached(team: Team) -> None:
    release = team.release()
    team.commit({"new": "1"})
    team.git("checkout", "--quiet", release.commit)
    promoted(team)
    assert team.head("staging") == release.commit


def test_skipping_a_stack_is_refused(team: Team) -> None:
    team.release()
    sentence = r"^releases are promoted to prod from staging, not from dev: run `make promote FROM=dev TO=st"
    refused(team, sentence, "dev", "prod")


def test_a_stack_without_a_release_has_nothing_to_promote(team: Team) -> None:
    refused(
        team,
        r"^dev has no release: run `make deploy STACK=dev`, `make smoke STACK=dev`, then `make release STACK=dev`$",
    )


def test_a_release_that_was_never_deployed_is_refused(team: Team) -> None:
    release = team.release(deployed_at=None)
    refused(
        team,
        rf"^gate deployed of staging not passed: {release.short} is not deployed in dev yet: run `make deploy STACK",
    )


def test_a_source_branch_that_lost_its_release_is_refused(team: Team) -> None:
    first = team.clone.head()
    release = team.release(commit=team.commit({"new": "1"}))
    team.git("reset", "--quiet", "--hard", first)
    team.git("push", "--quiet", "--force", "origin", "HEAD:dev")
    refused(team, rf"^dev no longer contains {release.short}, the release of dev: release its current commit")


def test_a_target_branch_that_is_ahead_is_refused(team: Team) -> None:
    release = team.release()
    team.commit({"new": "1"}, push="staging")
    refused(
        team,
        rf"^staging is 1 commit ahead of {release.short}, the release of dev: release a newer commit there, or roll "
        rf"back with `make rollback STACK=staging TO={release.short}`$",
    )


def test_a_target_branch_that_has_diverged_is_refused_with_what_it_alone_has(team: Team) -> None:
    first = team.release()
    promoted(team)
    hotfix = team.commit({"fix": "1"}, "Fix in staging", push="staging")
    team.git("reset", "--quiet", "--hard", first.commit)
    release = team.release(commit=team.commit({"new": "1"}))
    sentence = (
        rf"^staging has diverged from {release.short}, the release of dev, with the commits {hotfix[:7]} Fix in "
        rf"staging: merge them into .* `git push --force-with-lease=staging:{hotfix} origin {first.commit}:staging`$"
    )
    with pytest.raises(OperationError, match=sentence) as refusal:
        promoted(team)
    assert team.head("staging") == hotfix
    fix = str(refusal.value).rpartition("`git ")[2].rstrip("`")
    team.git(*fix.split())
    promoted(team)
    assert team.head("staging") == release.commit


def test_an_image_that_is_not_in_the_registry_is_refused_by_its_digest(team: Team) -> None:
    release = team.release()
    for file in team.registry("dev").folder.glob("ml:*"):
        file.unlink()
    image = release.images["ml"].name
    refused(team, rf"^the registry of dev lacks {image}: rebuild them with `make images STACK=dev`, then record the re")


def test_a_migration_is_refused_unless_it_is_confirmed(team: Team) -> None:
    team.release()
    promoted(team)
    commit = team.commit({"new": "1"})
    release = team.release(commit=commit, database_revisions={**REVISIONS, "alembic_version": "b2"})
    before = team.record("staging")
    with pytest.raises(OperationError, match=r"alembic_version a1 -> b2.*has a backup, then set CONFIRM=migration$"):
        promoted(team)
    assert team.record("staging") == before
    promoted(team, confirm="migration")
    assert team.head("staging") == release.commit


def test_a_missing_git_identity_is_refused(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.release()
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    refused(team, "^git has no identity")


def test_a_copy_that_fails_leaves_branch_and_record_as_they_were(team: Team) -> None:
    team.release()
    before = team.git("ls-remote", "origin")

    def fail(*_: object) -> None:
        raise OperationError("the registry does not answer")

    with (
        pytest.raises(OperationError, match="does not answer"),
        promotion(team.clone, "dev", "staging") as transition,
    ):
        promote(transition, type(team.images)(team.images.registry_of, fail, team.images.verify), print)  # type: ignore[arg-type]
    assert team.git("ls-remote", "origin") == before


GATES: list[tuple[dict[str, object], str]] = [
    (
        {"tests": True},
        r"^gate tests of staging not passed: the tests have not been run on {short}: run `git checkout {short}`, then",
    ),
    (
        {"soak_hours": 24},
        r"^gate deployed of staging not passed: deployed in dev since .*, required for 24 h: wait until ",
    ),
    (
        {"plan_review": True},
        r"^gate plan review of staging not passed: the plan has not .*: `make gate GATE=plan STACK=staging`",
    ),
]


@pytest.mark.parametrize(("gates", "sentence"), GATES)
def test_a_missing_gate_is_refused_with_the_command_that_passes_it(
    team: Team, gates: dict[str, object], sentence: str
) -> None:
    team.gates("staging", gates)
    release = team.release()
    refused(team, sentence.format(short=release.short))


def test_a_failed_gate_is_refused_with_who_saw_it(team: Team) -> None:
    team.gates("staging", {"tests": True})
    release = team.release()
    evidence = Evidence(gate="tests", passed=False, by="Grace <grace@example.org>", at=NOW)
    Ledger(team.clone).put_evidence(release.commit, evidence)
    refused(
        team,
        r"^gate tests of staging not passed: the tests failed: Grace <grace@example.org>, .*: fix them in a new commit",
    )


def test_passed_gates_let_a_release_through(team: Team) -> None:
    team.gates("staging", {"tests": True, "plan_review": True, "soak_hours": 1})
    release = team.release(deployed_at=NOW - timedelta(hours=1))
    for gate, stack in (("tests", None), ("plan", "staging")):
        evidence = Evidence(gate=gate, stack=stack, passed=True, by="Ada <ada@example.org>", at=NOW)  # type: ignore[arg-type]
        Ledger(team.clone).put_evidence(release.commit, evidence)
    promoted(team)
    assert team.head("staging") == release.commit


def test_a_review_counts_only_as_long_as_the_stack_stays_where_it_was(team: Team) -> None:
    team.gates("staging", {"plan_review": True})
    release = team.release()
    not_at_branch_head = Evidence(
        gate="plan", stack="staging", against="1" * 40, passed=True, by="Ada <ada@example.org>", at=NOW
    )
    Ledger(team.clone).put_evidence(release.commit, not_at_branch_head)
    refused(
        team,
        r"^gate plan review of staging not passed: staging has moved to another commit since: rerun `make gate",
    )


def test_a_missing_signature_is_refused(team: Team) -> None:
    team.gates("staging", {}, signed_by="^Ada$")
    team.release()
    refused(
        team,
        r"^gate signature of staging not passed: dev.example/airflow bears no signature by \^Ada\$; dev.example/ml",
    )


def test_a_dag_that_cannot_be_read_is_refused_with_its_file(team: Team) -> None:
    team.gates("staging", {"dag_integrity": True})
    team.release(commit=team.commit({"dags/broken/broken_dag.py": "from airflow import nothing_like_it  # a DAG\n"}))
    refused(team, r"^gate DAG integrity of staging not passed: broken/broken_dag.py: (ImportError|AttributeError): ")


def test_a_release_over_the_cost_limit_is_refused_with_both_figures(team: Team, gateways: Callable[..., str]) -> None:
    team.gates("staging", {"max_cost_increase_usd": 10})
    team.release()
    promoted(team)
    team.release(commit=team.commit({"resources.json": gateways("one")}))
    with pytest.raises(
        OperationError,
        match=r"^gate cost of staging not passed: \+41\.85 USD a month at the stated load, 10 USD allowed",
    ):
        promoted(team)
    team.gates("staging", {"max_cost_increase_usd": 42})
    team.release()
    promoted(team)


def test_the_gates_are_those_of_the_release_whatever_is_checked_out(team: Team) -> None:
    team.gates("staging", {"tests": True})
    team.release()
    team.gates("staging", {})
    refused(team, "^gate tests of staging not passed: ")


def test_settings_of_another_version_are_an_error_with_the_commit(team: Team) -> None:
    text = (team.clone.folder / "Pulumi.staging.yaml").read_text()
    release = team.release(commit=team.commit({"Pulumi.staging.yaml": f"{text}  airflow:older: true\n"}))
    team.commit({"Pulumi.staging.yaml": text})
    refused(
        team,
        rf"^the settings of staging in {release.short} are invalid for this .*`git checkout {release.short}`, then",
    )
