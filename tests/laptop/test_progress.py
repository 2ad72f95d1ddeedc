"""Tests of following a run."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from infra.errors import OperationError
from ops.airflow_api import AirflowApi, Task
from ops.console import new_console
from ops.laptop import progress
from ops.laptop.laptop import DAG

RUNNING = Task("train", "running", 1, None)


def follow(*, states: Iterator[str], paused: bool = False) -> tuple[str, list[Task]]:
    def state(*_: Any) -> str:
        found = next(states)
        if found == "silent":
            raise httpx.ConnectError("refused")
        return found

    api = SimpleNamespace(run_state=state, tasks=lambda *_: [RUNNING], is_paused=lambda _: paused)
    return progress.follow(cast(AirflowApi, api), DAG, "run", new_console(), "make up")


@pytest.fixture(autouse=True)
def _polls_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_INTERVAL_SECONDS", 0.01)


def test_a_run_is_followed_to_its_end_despite_a_short_outage() -> None:
    assert follow(states=iter(["queued", "silent", "running", "success"])) == ("success", [RUNNING])


def test_following_a_run_stops_when_its_dag_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperationError, match=r"image_classifier was paused .* run `make up` to unpause"):
        follow(states=iter(["queued"] * 9), paused=True)


def test_following_a_run_stops_when_airflow_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TIMEOUT_SECONDS", 0.05)
    with pytest.raises(OperationError, match="Airflow has not answered for"):
        follow(states=iter(["running", *["silent"] * 99]))


@pytest.mark.parametrize("paused", [True, False])
def test_a_paused_dag_is_unpaused_with_a_message(paused: bool) -> None:
    lines: list[str] = []
    unpaused: list[str] = []
    api = SimpleNamespace(is_paused=lambda _: paused, unpause=unpaused.append)
    progress.unpause(cast(AirflowApi, api), DAG, lines.append)
    assert unpaused == ([DAG] if paused else [])
    assert len(lines) == len(unpaused)
