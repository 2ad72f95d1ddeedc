from datetime import date
from typing import Any

import pytest

from infra.errors import OperationError
from ops.airflow_api import Task
from ops.console import new_console
from ops.laptop import flights, progress
from ops.laptop.flights import FEATURES, MODEL, MONITOR, SCORES, Replay

PERFORMANCE = {"1": {"outcomes": 28000, "auc": 0.71, "skill": 0.1}}


class FakeAirflow:
    """Airflow's API, where runs end at once and the monitor requests a new model after some months."""

    def __init__(self, requested: int, *, answers_requests: bool = True) -> None:
        self.started: list[tuple[str, dict[str, Any]]] = []
        self._requested = requested
        self._answers_requests = answers_requests

    def is_paused(self, _dag: str) -> bool:
        return False

    def active_run(self, _dag: str) -> None:
        return None

    def trigger(self, dag: str, conf: dict[str, Any]) -> dict[str, str]:
        self.started.append((dag, conf))
        if dag == SCORES:
            self.started.append((MONITOR, {}))
            if self._monitored == self._requested and self._answers_requests:
                self.started.append((MODEL, {}))
        return {"dag_run_id": self.newest_run(dag) or ""}

    def newest_run(self, dag: str) -> str | None:
        count = sum(one == dag for one, _ in self.started)
        return f"{dag} {count}" if count else None

    def run_state(self, _dag: str, _run: str) -> str:
        return "success"

    def tasks(self, _dag: str, _run: str) -> list[Task]:
        return []

    def result(self, _dag: str, _run: str, task: str) -> Any:
        if task == "performance":
            return PERFORMANCE
        return {"request": {"reason": "too little skill"} if self._monitored == self._requested else None}

    @property
    def _monitored(self) -> int:
        return sum(dag == MONITOR for dag, _ in self.started)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(flights, "POLL_SECONDS", 0)
    monkeypatch.setattr(flights, "TRIGGER_SECONDS", 0.1)


def replay(airflow: FakeAirflow) -> list[flights.MonitoredMonth]:
    return Replay(airflow, new_console(), lambda _: None).run()  # type: ignore[arg-type]


def test_each_month_gets_features_scores_and_monitoring_after_a_first_model() -> None:
    airflow = FakeAirflow(requested=4)
    months = replay(airflow)
    assert [dag for dag, _ in airflow.started[:5]] == [FEATURES, MODEL, FEATURES, SCORES, MONITOR]
    assert airflow.started[0][1] == {"first": "2013-01-01", "last": "2013-04-28"}
    assert airflow.started[1][1] == {"as_of": "2013-04-29"}
    assert airflow.started[2][1] == {"first": "2013-04-29", "last": "2013-04-30"}
    assert airflow.started[3][1] == {"first": "2013-04-01", "last": "2013-04-30"}
    assert [(month.month, month.requested) for month in months] == [
        ("April", False),
        ("May", False),
        ("June", False),
        ("July", True),
        ("August", False),
    ]


def test_days_that_have_features_are_not_published_again() -> None:
    airflow = FakeAirflow(requested=0)
    calendar = flights.Calendar(date(2013, 1, 1), date(2013, 3, 26), [date(2013, 2, 1)])
    [month] = Replay(airflow, new_console(), lambda _: None).run(calendar)  # type: ignore[arg-type]
    assert month.month == "February"
    assert [dag for dag, _ in airflow.started] == [FEATURES, MODEL, SCORES, MONITOR]


def test_a_request_that_starts_no_training_ends_the_replay_with_a_sentence() -> None:
    with pytest.raises(OperationError, match="flight_model was not started by the monitor's request within"):
        replay(FakeAirflow(requested=2, answers_requests=False))
