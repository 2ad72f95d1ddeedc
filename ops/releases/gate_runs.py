"""Run the tests, the plan review or the rehearsal for a release, and record the result."""

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
    """Run the test suite on the checked-out commit, and record the result.

    Raises:
        OperationError: The tests failed, or there are uncommitted changes.
    """
    if sentence := uncommitted(clone):
        raise OperationError(sentence)
    commit, ledger = clone.head(), Ledger(clone)
    clone.identity()
    # Without the environment that `make` passes to this command: its options and variables must not affect the tests.
    passed = subprocess.run(["make", "test"], cwd=clone.folder, env=allowed(TESTS), check=False).returncode == 0
    if clone.head() != commit or uncommitted(clone):
        raise OperationError(
            f"files changed while the tests of {commit[:12]} ran, so nothing was recorded: rerun this command"
        )
    ledger.put_evidence(commit, _evidence(clone, "tests", passed=passed))
    if not passed:
        raise OperationError(f"the tests of {commit[:12]} failed, which is recorded: see the output above")
    echo(f"recorded: {commit[:12]} passed the tests")


def approve(transition: Transition, echo: Echo, *, approved: bool) -> None:
    """Record whether a release's changes to a stack are approved.

    Raises:
        OperationError: The changes are declined.
    """
    _record(transition, "plan", passed=approved)
    if not approved:
        raise OperationError(
            f"{transition.release.short} is declined for {transition.stack}, which is recorded: answer y, or set YES=1"
        )
    echo(f"recorded: {transition.release.short} is approved for {transition.stack}")


def rehearse(transition: Transition, rehearsal: Callable[[Release], None], echo: Echo) -> None:
    """Rehearse a release's migrations on a copy of a stack's database, and record the result.

    Raises:
        OperationError: The rehearsal failed.
    """
    transition.clone.identity()
    try:
        rehearsal(transition.release)
    except OperationError:
        _record(transition, "rehearsal", passed=False)
        raise
    _record(transition, "rehearsal", passed=True)
    echo(f"recorded: the migrations of {transition.release.short} ran on a copy of the database of {transition.stack}")


def _record(transition: Transition, gate: Subject, *, passed: bool) -> None:
    evidence = _evidence(transition.clone, gate, transition.stack, transition.before, passed=passed)
    transition.ledger.put_evidence(transition.release.commit, evidence)


def _evidence(
    clone: Clone, gate: Subject, stack: str | None = None, against: str | None = None, *, passed: bool
) -> Evidence:
    now = datetime.now(UTC).replace(microsecond=0)
    return Evidence(gate=gate, stack=stack, against=against, passed=passed, by=clone.identity(), at=now)
