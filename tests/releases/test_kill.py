"""Promotions that are killed at every step, and concurrent promotions."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.errors import OperationError
from infra.release import ReleasedImage
from ops.console import Echo
from ops.images.registries import Registry
from ops.releases.images import Images
from ops.releases.ledger import Ledger
from ops.releases.promotion import promote, promotion
from tests.programs import put_on_path, write_program

from .team import Team, copy

FORK = multiprocessing.get_context("fork")

# Kills the caller of one Git command, and then runs the command itself if requested.
KILLING_GIT = """#!/bin/sh
if [ "$3" = "{command}" ]; then
    kill -KILL $PPID
    {then}
fi
exec "{git}" "$@"
"""

# Git commands in the order of a promotion: reads, checks and, after the images, writes.
COMMANDS = ("ls-remote", "fetch", "archive", "status", "merge-base", "read-tree", "hash-object", "commit-tree", "push")

# Waits until both pushes have arrived, and only then handles them.
BARRIER = """#!/bin/sh
mkdir "$BARRIER/$$"
for _ in $(seq 100); do
    [ "$(ls "$BARRIER" | wc -l)" -ge 2 ] && exit 0
    sleep 0.05
done
exit 1
"""


@contextmanager
def killing_git(team: Team, monkeypatch: pytest.MonkeyPatch, command: str, then: str = "exit 1") -> Iterator[None]:
    text = KILLING_GIT.format(command=command, then=then, git=shutil.which("git"))
    with monkeypatch.context() as patched:
        put_on_path(patched, team.folder / "bin" / "git", text)
        yield


def promote_once(team: Team, images: Images) -> None:
    with promotion(team.clone, "dev", "staging") as transition:
        promote(transition, images, lambda _: None)


def promote_in_a_process(team: Team, images: Images | None = None) -> int | None:
    """Promote in a separate process; return its exit code."""
    process = FORK.Process(target=promote_once, args=(team, images or team.images))
    process.start()
    process.join(300)
    return process.exitcode


def check_all_or_nothing(team: Team, before: str | None, after: str) -> None:
    ledger = Ledger(team.clone, "staging")  # both as of one fetch
    record = ledger.release("staging")
    state = (ledger.heads.get("staging"), record.commit if record else None)
    assert state in ((before, before), (after, after)), state


def check_arrived(team: Team, commit: str) -> None:
    record = team.record("staging")
    assert record
    assert (team.head("staging"), record.commit) == (commit, commit)
    assert all(team.registry("staging").has_digest(name, image.digest) for name, image in record.images.items())
    assert [entry.release for entry in Ledger(team.clone).history("staging") if entry.release.commit == commit] == [
        record
    ]
    assert team.clone.dirty() == []
    assert list((team.clone.folder / ".git").rglob("*.lock")) == []


@pytest.fixture
def ready(team: Team) -> Team:
    """A team with a release in staging and a newer one in dev."""
    team.release()
    promote_once(team, team.images)
    team.release(commit=team.commit({"new": "1"}))
    return team


@pytest.mark.parametrize("command", COMMANDS)
def test_a_promotion_that_is_killed_before_any_step_is_finished_by_the_next(
    ready: Team, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = ready.head("staging"), ready.clone.head()
    with killing_git(ready, monkeypatch, command):
        assert promote_in_a_process(ready) == -signal.SIGKILL
    check_all_or_nothing(ready, before, after)
    promote_once(ready, ready.images)
    check_arrived(ready, after)


def test_a_promotion_that_is_killed_while_git_pushes_for_it_is_finished_by_the_next(
    ready: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = ready.head("staging"), ready.clone.head()
    with killing_git(ready, monkeypatch, "push", then=":"):
        assert promote_in_a_process(ready) == -signal.SIGKILL
    check_all_or_nothing(ready, before, after)
    wait_for(lambda: ready.head("staging") == after)  # it continues on its own
    promote_once(ready, ready.images)
    check_arrived(ready, after)


@pytest.mark.parametrize("number", [1, 2])
def test_a_promotion_that_is_killed_while_it_copies_an_image_is_finished_by_the_next(ready: Team, number: int) -> None:
    before, after = ready.head("staging"), ready.clone.head()
    copied: list[str] = []

    def killing(source: Registry, target: Registry, image: ReleasedImage, name: str, echo: Echo) -> ReleasedImage:
        copied.append(name)
        if len(copied) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(source, target, image, name, echo)

    images = Images(ready.images.registry_of, killing, ready.images.verify)
    assert promote_in_a_process(ready, images) == -signal.SIGKILL
    assert (ready.head("staging"), ready.registry("staging").has_digest("airflow", digest(ready))) == (
        before,
        number == 2,
    )
    promote_once(ready, ready.images)
    check_arrived(ready, after)


@pytest.mark.parametrize("hook", ["pre-receive", "post-receive"])
def test_a_promotion_that_dies_with_its_connection_is_finished_by_the_next(
    ready: Team, hook: str, tmp_path: Path
) -> None:
    """All processes of the promotion die during the push, before or after the remote's branches move."""
    before, after = ready.head("staging"), ready.clone.head()
    reached = tmp_path / "reached"
    write_hook(ready, hook, f'#!/bin/sh\ntouch "{reached}"\nsleep 1\n')
    process = FORK.Process(target=promote_in_a_session, args=(ready,))
    process.start()
    wait_for(reached.exists)
    assert process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    check_all_or_nothing(ready, before, after)
    (ready.remote / "hooks" / hook).unlink()
    promote_once(ready, ready.images)
    check_arrived(ready, after)


@pytest.mark.parametrize("branch", ["staging", "releases"])
def test_what_a_remote_did_by_half_before_it_died_is_finished_by_the_next(ready: Team, branch: str) -> None:
    after, old = ready.clone.head(), ready.head(branch)
    promote_once(ready, ready.images)
    ready.git("update-ref", f"refs/heads/{branch}", str(old), folder=ready.remote)
    promote_once(ready, ready.images)
    record = ready.record("staging")
    assert record
    assert (ready.head("staging"), record.commit) == (after, after)


def test_of_two_concurrent_promotions_one_fails_with_a_message(
    ready: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = ready.clone.head()
    monkeypatch.setenv("BARRIER", str(tmp_path / "barrier"))
    (tmp_path / "barrier").mkdir()
    write_hook(ready, "pre-receive", BARRIER)
    answers: multiprocessing.Queue[str] = FORK.Queue()
    processes = [FORK.Process(target=answering, args=(ready, name, answers)) for name in ("Ada", "Grace")]
    for process in processes:
        process.start()
    messages = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(60)
    [loser] = [answer for answer in messages if answer]
    winner = Ledger(ready.clone).history("staging")[0].by
    assert loser == (
        f'the record of staging was changed meanwhile: {after[:12]}, by {winner} ("Promote {after[:12]} from dev to '
        'staging"); rerun this command'
    )
    check_arrived(ready, after)
    assert len(list((tmp_path / "barrier").iterdir())) == 2


def promote_in_a_session(team: Team) -> None:
    os.setsid()
    promote_once(team, team.images)


def answering(team: Team, name: str, answers: "multiprocessing.Queue[str]") -> None:
    for role in ("AUTHOR", "COMMITTER"):
        os.environ[f"GIT_{role}_NAME"] = name
    try:
        promote_once(team, team.images)
    except OperationError as error:
        answers.put(str(error))
    else:
        answers.put("")


def write_hook(team: Team, name: str, text: str) -> None:
    write_program(team.remote / "hooks" / name, text)


def digest(team: Team) -> str:
    record = team.record("dev")
    assert record
    return record.images["airflow"].digest


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
