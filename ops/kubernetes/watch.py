"""Watch a stack's pods while Pulumi waits for them, and report problems that waiting does not solve."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from infra.errors import OperationError
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis, Problem

# Returns why waiting is pointless, or None.
Watcher = Callable[[], str | None]

# How long the cluster may not respond: its API restarts occasionally.
SILENCE_SECONDS = 30
# How long problems from before the deployment may last: the deployment may be about to fix them.
CORRECTION_SECONDS = 60


class Watch:
    """Checks the pods each time it is called."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        diagnosis: Diagnosis,
        clock: Callable[[], float] = time.monotonic,
        *,
        of: str = "",
    ) -> None:
        """Watch these namespaces; if `of` is set, only objects with this in their name."""
        self._cluster = cluster
        self._namespaces = namespaces
        self._diagnosis = diagnosis
        self._clock = clock
        self._of = of
        self._since: dict[Problem, float] = {}
        self._old: frozenset[Problem] | None = None

    def __call__(self) -> str | None:
        """Return a problem that has lasted longer than its grace period; None if there is none."""
        problems = self._problems()
        now = self._clock()
        if self._old is None:
            self._old = frozenset(problems)
        self._since = {problem: self._since.get(problem, now) for problem in problems}
        overdue = [problem for problem, since in self._since.items() if now - since >= self._grace_seconds(problem)]
        return str(overdue[0]) if overdue else None

    def _grace_seconds(self, problem: Problem) -> int:
        old = problem in (self._old or ())
        return max(problem.grace_seconds, CORRECTION_SECONDS) if old else problem.grace_seconds

    def _problems(self) -> list[Problem]:
        try:
            return [
                problem
                for name in self._namespaces
                for problem in self._diagnosis.problems(self._cluster.namespace(name), partial(self._cluster.log, name))
                if self._of in problem.subject
            ]
        except OperationError as error:
            return [Problem("deployment", str(error), SILENCE_SECONDS)]
