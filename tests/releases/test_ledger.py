import pytest

from infra.errors import OperationError
from ops.releases.clone import Clone, Move
from ops.releases.evidence import Evidence, found
from ops.releases.ledger import BRANCH, Ledger, release_of

from .team import NOW, Team

TESTS = Evidence(gate="tests", passed=True, by="Ada <ada@example.org>", at=NOW)


def test_a_stack_without_a_record_has_none(team: Team) -> None:
    assert release_of("dev", team.clone) is None
    assert Ledger(team.clone).history("dev") == []


def test_the_first_record_makes_a_branch_that_has_no_history_of_the_sources(team: Team) -> None:
    written = team.release()
    assert release_of("dev", team.clone) == written
    team.git("fetch", "--quiet", "origin", BRANCH)
    assert team.git("ls-tree", "-r", "--name-only", "FETCH_HEAD") == "releases/dev.yaml"
    assert team.git("rev-list", "--count", "FETCH_HEAD") == "1"


def test_a_record_says_by_whom_it_is_written(team: Team) -> None:
    team.release()
    team.git("fetch", "--quiet", "origin", BRANCH)
    text = team.git("show", "FETCH_HEAD:releases/dev.yaml")
    assert text.startswith(
        "# Written by `make release`, `make promote`, `make rollback` and `make gate`, never by hand"
    )


def test_writing_touches_neither_files_nor_index_nor_branches_of_the_clone(team: Team) -> None:
    (team.clone.folder / "mine").write_text("not committed")
    team.git("add", "mine")
    before = team.git("status", "--porcelain"), team.git("branch", "--list"), team.git("ls-files", "--stage")
    team.release()
    assert (team.git("status", "--porcelain"), team.git("branch", "--list"), team.git("ls-files", "--stage")) == before


def test_the_history_of_a_stack_is_the_newest_first_with_who_did_what(team: Team) -> None:
    first = team.release()
    team.release("staging", first.commit)
    second = team.release(commit=team.commit({"new": "1"}))
    history = Ledger(team.clone).history("dev")
    assert [entry.release for entry in history] == [second, first]
    assert history[0].by == "Ada <ada@example.org>"
    assert history[0].message == f"{second.short} runs in dev"


def test_a_record_that_was_replaced_meanwhile_is_an_error_with_the_author(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = team.release()
    late = Ledger(team.clone, "dev")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Grace")
    second = team.release(commit=team.commit({"new": "1"}))
    sentence = (
        rf"^the record of dev was changed meanwhile: {second.short}, by Grace <ada@example.org> "
        rf'\("{second.short} runs in dev"\); rerun this command$'
    )
    with pytest.raises(OperationError, match=sentence):
        late.put_release(first.model_copy(update={"deployed_at": None}), first, "Late")
    assert release_of("dev", team.clone) == second


def test_a_branch_that_moved_meanwhile_stops_the_record_too(team: Team) -> None:
    release = team.release()
    late = Ledger(team.clone, "dev")
    pushed = team.commit({"new": "1"})
    move = Move("dev", release.commit, release.commit)
    with pytest.raises(
        OperationError, match=f"^the branch dev was moved to {pushed[:12]} meanwhile: rerun this command"
    ):
        late.put_release(release.model_copy(update={"deployed_at": None}), release, "Late", move)
    assert release_of("dev", team.clone) == release


def test_what_others_write_meanwhile_is_kept(team: Team) -> None:
    release = team.release()
    late = Ledger(team.clone)
    Ledger(team.clone).put_evidence(release.commit, TESTS)
    review = TESTS.model_copy(update={"gate": "plan", "stack": "staging"})
    late.put_evidence(release.commit, review)
    assert Ledger(team.clone).evidence(release.commit) == [TESTS, review]


def test_the_first_two_writers_of_all_both_succeed(team: Team) -> None:
    late = Ledger(team.clone)
    Ledger(team.clone).put_evidence("1" * 40, TESTS)
    late.put_evidence("2" * 40, TESTS)
    assert [Ledger(team.clone).evidence(digit * 40) for digit in "12"] == [[TESTS], [TESTS]]


def test_newer_evidence_takes_the_place_of_older_for_the_same_stack_alone(team: Team) -> None:
    commit = team.clone.head()
    plan = TESTS.model_copy(update={"gate": "plan", "stack": "staging"})
    other = plan.model_copy(update={"stack": "prod"})
    declined = plan.model_copy(update={"passed": False})
    for evidence in (plan, other, declined):
        Ledger(team.clone).put_evidence(commit, evidence)
    known = Ledger(team.clone).evidence(commit)
    assert (found(known, "plan", "staging"), found(known, "plan", "prod")) == (declined, other)
    assert len(known) == 2


def test_a_note_is_in_the_history_without_a_record(team: Team) -> None:
    Ledger(team.clone).note("Deploy dev past the checks: it burns")
    team.git("fetch", "--quiet", "origin", BRANCH)
    assert team.git("log", "--format=%s", "FETCH_HEAD") == "Deploy dev past the checks: it burns"


def test_a_record_that_was_written_by_hand_is_refused_with_its_file(team: Team) -> None:
    clone = team.folder / "other"
    team.release()
    team.git("clone", "--quiet", f"--branch={BRANCH}", str(team.remote), str(clone))
    (clone / "releases" / "dev.yaml").write_text("commit: latest\n")
    team.git("commit", "--quiet", "--all", "--message", "By hand", folder=clone)
    team.git("push", "--quiet", folder=clone)
    with pytest.raises(OperationError, match=r"^releases/dev.yaml of the branch releases cannot be read \("):
        release_of("dev", Clone(team.clone.folder))
