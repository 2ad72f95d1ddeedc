"""Rollbacks of a stack with several releases in its history."""

from datetime import timedelta

import pytest

from infra.errors import OperationError
from infra.release import Release
from ops.releases.ledger import Ledger
from ops.releases.promotion import promote, promotion
from ops.releases.rollback import roll_back, rollback_transition

from .team import NOW, REVISIONS, Team


def back(team: Team, to: str | None = None, confirm: str | None = None, stack: str = "prod") -> list[str]:
    said: list[str] = []
    with rollback_transition(team.clone, stack, to) as transition:
        roll_back(transition, team.images, said.append, confirm)
    return said


def refused(team: Team, sentence: str, to: str | None = None) -> None:
    before = team.git("ls-remote", "origin")
    with pytest.raises(OperationError, match=sentence):
        back(team, to)
    assert team.git("ls-remote", "origin") == before


def at(team: Team) -> str:
    record = team.record("prod")
    assert record
    assert team.head("main") == record.commit
    return record.commit


def deployed(team: Team) -> None:
    record = team.record("prod")
    assert record
    update = {"deployed_at": NOW, "forced_by": None}
    Ledger(team.clone).put_release(record.model_copy(update=update), record, f"{record.short} runs in prod")


@pytest.fixture
def releases(team: Team) -> list[Release]:
    """Three releases that ran in prod, in order."""
    return [
        team.release("prod", team.commit({"new": str(number)}), promoted_from="staging", recorded_at=NOW)
        for number in range(3)
    ]


def test_a_rollback_brings_branch_images_and_record_of_the_release_before(team: Team, releases: list[Release]) -> None:
    [said] = back(team)
    record = team.record("prod")
    assert record
    assert record.runs_as(releases[1])
    assert (record.promoted_from, record.deployed_at) == ("staging", None)
    assert record.recorded_at >= NOW
    assert at(team) == releases[1].commit
    assert said.startswith(
        f"rolled prod back to {releases[1].short}: its DAGs run within seconds, deploy the rest with `make deploy"
    )
    assert Ledger(team.clone).history("prod")[0].message == f"Roll prod back to {releases[1].short}"


@pytest.mark.parametrize("is_deployed", [True, False])
def test_a_second_rollback_continues_to_the_release_before(
    team: Team, releases: list[Release], *, is_deployed: bool
) -> None:
    back(team)
    if is_deployed:
        deployed(team)
    back(team)
    assert at(team) == releases[0].commit
    refused(
        team, rf"^no release ran in prod before {releases[0].short}: fix the problem in a new commit and release it"
    )


def test_a_release_that_was_rolled_back_can_come_again_and_be_rolled_back_again(
    team: Team, releases: list[Release]
) -> None:
    back(team)
    team.release("prod", releases[2].commit)
    back(team)
    assert at(team) == releases[1].commit


def test_a_release_that_never_ran_is_passed_over(team: Team, releases: list[Release]) -> None:
    team.release("prod", team.commit({"new": "bad"}), deployed_at=None)
    team.release("prod", team.commit({"new": "worse"}), deployed_at=None)
    back(team)
    assert at(team) == releases[2].commit


def test_a_release_is_named_by_the_beginning_of_its_commit(team: Team, releases: list[Release]) -> None:
    back(team, releases[0].commit[:8].upper())
    assert at(team) == releases[0].commit
    back(team, releases[2].short)
    assert at(team) == releases[2].commit


def test_a_rollback_to_what_is_there_changes_nothing(team: Team, releases: list[Release]) -> None:
    before = team.git("ls-remote", "origin")
    assert back(team, releases[2].short) == [f"prod already has {releases[2].short}"]
    assert team.git("ls-remote", "origin") == before


def test_an_unknown_release_is_refused(team: Team, releases: list[Release]) -> None:
    refused(team, r"^prod has no release 0123: choose one that `make releases STACK=prod` lists$", "0123")


def test_an_ambiguous_release_is_refused(team: Team, releases: list[Release]) -> None:
    while len({release.commit[0] for release in releases}) == len(releases):
        releases.append(team.release("prod", team.commit({"new": str(len(releases))})))
    twice = next(digit for digit in "0123456789abcdef" if sum(release.commit[0] == digit for release in releases) > 1)
    refused(team, rf"^{twice} is ambiguous, it matches {twice}\w+(, {twice}\w+)+: use more digits$", twice)


def test_a_release_that_never_ran_is_refused_when_it_is_named(team: Team, releases: list[Release]) -> None:
    never = team.release("prod", team.commit({"new": "never"}), deployed_at=None)
    team.release("prod", team.commit({"new": "then"}))
    refused(
        team, rf"^{never.short} never ran in prod: choose one that `make releases STACK=prod` lists as", never.short
    )


def test_a_stack_without_a_release_cannot_be_rolled_back(team: Team) -> None:
    refused(team, r"^prod has no release to roll back to: record one")


def test_a_release_whose_images_are_gone_is_refused(team: Team, releases: list[Release]) -> None:
    (team.registry("prod").folder / f"ml:{releases[1].commit[:16]}").unlink()
    image = releases[1].images["ml"].name
    refused(
        team, rf"^the registry of prod lacks {image}: set TO to another release that `make releases STACK=prod` lists$"
    )


def test_another_schema_of_the_database_is_refused_unless_it_is_confirmed(team: Team, releases: list[Release]) -> None:
    migrated = {**REVISIONS, "alembic_version": "b2"}
    newest = team.release(
        "prod", team.commit({"new": "schema"}), database_revisions=migrated, recorded_at=NOW + timedelta(minutes=1)
    )
    refused(team, r"alembic_version b2 -> a1\): restore a backup from before .* UTC first, then set CONFIRM=database$")
    assert at(team) == newest.commit
    back(team, confirm="database")
    assert at(team) == releases[2].commit


def test_commits_that_a_rollback_would_drop_are_named_and_it_is_refused(team: Team, releases: list[Release]) -> None:
    pushed = team.commit({"fix": "1"}, "Fix by hand", push="main")
    present = releases[2]
    sentence = (
        rf"^main is not at {present.short}, the release of prod, but has {pushed[:7]} Fix by hand: revert the commits "
        rf"with `git revert`, or remove them from the branch with `git push --force-with-lease=main:{pushed} "
        rf"origin {present.commit}:main`, then rerun this command$"
    )
    refused(team, sentence)


def test_a_rollback_needs_no_clean_clone(team: Team, releases: list[Release]) -> None:
    (team.clone.folder / "mine").write_text("dirty")
    team.git("checkout", "--quiet", "-b", "feature", releases[0].commit)
    back(team)
    assert at(team) == releases[1].commit


def test_a_rollback_after_a_concurrent_promotion_is_an_error(team: Team, releases: list[Release]) -> None:
    with rollback_transition(team.clone, "prod", None) as transition:
        winner = team.release("prod", team.commit({"new": "winner"}))
        with pytest.raises(OperationError, match=rf"^the record of prod was changed meanwhile: {winner.short}, by Ada"):
            roll_back(transition, team.images, lambda _: None)
    assert at(team) == winner.commit


def test_after_a_rollback_the_next_promotion_goes_forward_again(team: Team, releases: list[Release]) -> None:
    back(team)
    release = team.release("staging", releases[2].commit)
    with promotion(team.clone, "staging", "prod") as transition:
        promote(transition, team.images, lambda _: None)
    assert at(team) == release.commit
