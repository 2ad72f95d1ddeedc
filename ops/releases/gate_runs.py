"""Pass the gates that somebody has to run or to look at, and write down the result."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

from infra.errors import OperationError
from infra.release import Release
from ops.console import Echo
from ops.process_environment import TESTS, allowed
from ops.releases.clone import Clone
from ops.releases.evidence import Evidence, Subject
from ops.releases.git_preconditions import uncommitted
from ops.releases.ledger import Ledger
from ops.releases.transition import Transition


def run_tests(clone: Clone, echo: Echo) -> None:
    """Run the test suite on the commit that is checked out.

    Raises:
        OperationError: It failed, or files are not as the commit has them.
    """
    if sentence := uncommitted(clone):
        raise OperationError(sentence)
    commit, ledger = clone.head(), Ledger(clone)
    clone.identity()
    # Without what `make` hands down to this command: its options and variables are not those of the tests.
    passed = subprocess.run(["make", "test"], cwd=clone.folder, env=allowed(TESTS), check=False).returncode == 0
    if clone.head() != commit or uncommitted(clone):
        raise OperationError(
            f"files changed while the tests of {commit[:12]} ran, so nothing was recorded: run them again"
        )
    ledger.put_evidence(commit, _evidence(clone, "tests", passed=passed))
    if not passed:
        raise OperationError(f"the tests of {commit[:12]} failed, which is recorded; their own words are above")
    echo(f"recorded: {commit[:12]} passed the tests")


def approve(way: Transition, echo: Echo, *, approved: bool) -> None:
    """Write down that somebody approves what a release changes in a stack, or does not.

    Raises:
        OperationError: They do not.
    """
    _record(way, "plan", passed=approved)
    if not approved:
        raise OperationError(
            f"{way.release.short} is declined for {way.stack}, which is recorded: answer y, or give YES=1"
        )
    echo(f"recorded: {way.release.short} is approved for {way.stack}")


def rehearse(way: Transition, rehearsal: Callable[[str, Release, Echo], None], echo: Echo) -> None:
    """Run a release's migrations on a copy of a stack's database.

    Raises:
        OperationError: They fail.
    """
    way.clone.identity()
    try:
        rehearsal(way.stack, way.release, echo)
    except OperationError:
        _record(way, "rehearsal", passed=False)
        raise
    _record(way, "rehearsal", passed=True)
    echo(f"recorded: the migrations of {way.release.short} ran on a copy of the database of {way.stack}")


def _record(way: Transition, gate: Subject, *, passed: bool) -> None:
    evidence = _evidence(way.clone, gate, way.stack, way.before, passed=passed)
    way.ledger.put_evidence(way.release.commit, evidence)


def _evidence(
    clone: Clone, gate: Subject, stack: str | None = None, against: str | None = None, *, passed: bool
) -> Evidence:
    now = datetime.now(UTC).replace(microsecond=0)
    return Evidence(gate=gate, stack=stack, against=against, passed=passed, by=clone.identity(), at=now)
