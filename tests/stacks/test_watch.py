from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.errors import OperationError
from ops.cli import stacks
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis, Namespace
from ops.kubernetes.watch import Watch
from ops.stacks.platform_stack import PlatformStack

ILL = {
    "metadata": {"name": "it", "uid": "u"},
    "spec": {"containers": []},
    "status": {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "base", "image": "x:1", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
        ],
    },
}


class Story:
    """A cluster that returns one state per poll, and a clock that each state advances."""

    def __init__(self, *tellings: Any) -> None:
        self.tellings = list(tellings)
        self.now = 0.0

    def namespace(self, _: str) -> Namespace:
        telling = self.tellings.pop(0)
        if isinstance(telling, Exception):
            raise telling
        return Namespace(pods=telling)

    def check(self) -> None:
        """Respond."""

    def log(self, *_: str) -> str:
        return ""


def looks(story: Story, seconds: float) -> list[str | None]:
    watch = Watch(cast(Cluster, story), ["airflow"], Diagnosis("local", "git://x", "local"), lambda: story.now)
    found = []
    while story.tellings:
        found.append(watch())
        story.now += seconds
    return found


def test_a_problem_is_reported_after_its_grace_period() -> None:
    found = looks(Story([], [ILL], [ILL], [ILL]), seconds=10)
    assert found[:3] == [None] * 3
    assert str(found[3]).startswith("pod it: the image x:1 cannot be pulled")


def test_the_grace_period_restarts_when_a_problem_returns() -> None:
    assert looks(Story([], [ILL], [ILL], [], [ILL], [ILL]), seconds=10) == [None] * 6


def test_problems_from_before_the_deployment_may_last_a_minute() -> None:
    found = looks(Story(*[[ILL]] * 7), seconds=10)
    assert found[:6] == [None] * 6
    assert found[6] is not None


def test_a_cluster_that_does_not_respond_for_half_a_minute_is_reported() -> None:
    gone = OperationError("the cluster x does not respond: start it")
    assert looks(Story([], gone, gone, gone, gone), seconds=10)[-1] == (
        "deployment: the cluster x does not respond: start it"
    )
    assert looks(Story(gone, [], gone, []), seconds=20) == [None] * 4


def test_a_cluster_that_does_not_respond_at_the_start_is_not_watched(capsys: pytest.CaptureFixture[str]) -> None:
    def check() -> None:
        raise OperationError("the cluster x does not respond: start it")

    stack = SimpleNamespace(has_cluster=True, cluster=SimpleNamespace(check=check))
    assert stacks.watcher(cast(PlatformStack, stack)) is None
    expected = "the pods are not watched, because the cluster x does not respond: start it\n"
    assert capsys.readouterr().out == expected
