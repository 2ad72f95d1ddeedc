"""Rollbacks of a stack whose history holds several releases."""

from datetime import timedelta

import pytest

from infra.errors import OperationError
from infra.release import Release
from ops.releases.ledger import Ledger
from ops.releases.promotion import promote, promotion
from ops.releases.rollback import roll_back, way_back

from .team import NOW, REVISIONS, Team


def back(team: Team, to: str | None = None, confirm: str | None = None, stack: str = "prod") -> list[str]:
    said: list[str] = []
    with way_back(team.clone, stack, to) as way:
        roll_back(way, team.images, said.append, confirm)
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
    """Three releases that ran in prod, one after the other."""
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
        f"prod goes back to {releases[1].short}: its DAGs within seconds, the rest with `make deploy"
    )
    assert Ledger(team.clone).history("prod")[0].message == f"Roll prod back to {releases[1].short}"


@pytest.mark.parametrize("is_deployed", [True, False])
def test_a_second_rollback_goes_on_back(team: Team, releases: list[Release], *, is_deployed: bool) -> None:
    back(team)
    if is_deployed:
        deployed(team)
    back(team)
    assert at(team) == releases[0].commit
    refused(team, rf"^no release ran in prod before {releases[0].short}: mend what is wrong in a commit on top, and")


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
    assert back(team, releases[2].short) == [f"prod has {releases[2].short} already"]
    assert team.git("ls-remote", "origin") == before


def test_an_unknown_release_is_refused(team: Team, releases: list[Release]) -> None:
    refused(team, r"^prod never had a release 0123: choose one that `make releases STACK=prod` lists$", "0123")


def test_an_ambiguous_release_is_refused(team: Team, releases: list[Release]) -> None:
    while len({release.commit[0] for release in releases}) == len(releases):
        releases.append(team.release("prod", team.commit({"new": str(len(releases))})))
    twice = next(digit for digit in "0123456789abcdef" if sum(release.commit[0] == digit for release in releases) > 1)
    refused(team, rf"^{twice} is the beginning of {twice}\w+, {twice}\w+: give more of it$", twice)


def test_a_release_that_never_ran_is_refused_when_it_is_named(team: Team, releases: list[Release]) -> None:
    never = team.release("prod", team.commit({"new": "never"}), deployed_at=None)
    team.release("prod", team.commit({"new": "then"}))
    refused(
        team, rf"^{never.short} never ran in prod: choose one that `make releases STACK=prod` lists as", never.short
    )


def test_a_stack_without_any_release_has_nothing_to_go_back_to(team: Team) -> None:
    refused(team, r"^prod has no release, so there is nothing to go back to$")


def test_a_release_whose_images_are_gone_is_refused(team: Team, releases: list[Release]) -> None:
    (team.registry("prod").folder / f"ml:{releases[1].commit[:16]}").unlink()
    image = releases[1].images["ml"].name
    refused(team, rf"^the registry of prod does not have {image}: choose another release of `make releases STACK=prod`")


def test_another_schema_of_the_database_is_refused_unless_it_is_confirmed(team: Team, releases: list[Release]) -> None:
    migrated = {**REVISIONS, "alembic_version": "b2"}
    newest = team.release(
        "prod", team.commit({"new": "schema"}), database_revisions=migrated, recorded_at=NOW + timedelta(minutes=1)
    )
    refused(team, r"alembic_version b2 -> a1\): restore a backup from before .* UTC first, then give CONFIRM=database$")
    assert at(team) == newest.commit
    back(team, confirm="database")
    assert at(team) == releases[2].commit


def test_commits_that_a_rollback_would_drop_are_named_and_it_is_refused(team: Team, releases: list[Release]) -> None:
    pushed = team.commit({"fix": "1"}, "Fix by hand", push="main")
    present = releases[2]
    sentence = (
        rf"^main is not at the release of prod, {present.short}, but has {pushed[:7]} Fix by hand: take back what is "
        rf"wrong with `git revert`, or take all of it off the branch with `git push --force-with-lease=main:{pushed} "
        rf"origin {present.commit}:main`, then run the same command again$"
    )
    refused(team, sentence)


def test_a_rollback_needs_no_clean_clone(team: Team, releases: list[Release]) -> None:
    (team.clone.folder / "mine").write_text("dirty")
    team.git("checkout", "--quiet", "-b", "feature", releases[0].commit)
    back(team)
    assert at(team) == releases[1].commit


def test_a_rollback_that_lost_against_a_promotion_is_told(team: Team, releases: list[Release]) -> None:
    with way_back(team.clone, "prod", None) as way:
        winner = team.release("prod", team.commit({"new": "winner"}))
        with pytest.raises(OperationError, match=rf"^another release came into prod meanwhile: {winner.short}, by Ada"):
            roll_back(way, team.images, lambda _: None)
    assert at(team) == winner.commit


def test_after_a_rollback_the_next_promotion_goes_forward_again(team: Team, releases: list[Release]) -> None:
    back(team)
    release = team.release("staging", releases[2].commit)
    with promotion(team.clone, "staging", "prod") as way:
        promote(way, team.images, lambda _: None)
    assert at(team) == release.commit
