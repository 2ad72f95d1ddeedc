"""The alert of a late run. `make up` and a real scheduler are needed to see it sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.definitions.deadline import DeadlineReference

from ml_common import deadlines, notification

# As Airflow passes it to the callback of a deadline: some fields of the run in JSON, and the deadline.
CONTEXT: dict[str, Any] = {
    "dag_run": {
        "dag_id": "churn",
        "dag_run_id": "scheduled__2013-01-11T05:00:00+00:00",
        "partition_key": "2013-01-10",
        "run_type": "scheduled",
        "state": "running",
    },
    "deadline": {"id": "1", "deadline_time": datetime(2013, 1, 11, 6, 0, 1, tzinfo=UTC)},
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """The DAGs, subjects and texts of the notifications."""
    messages: list[tuple[str, str, str]] = []
    monkeypatch.setattr(notification, "notify", lambda *message: messages.append(message))
    return messages


def test_a_late_run_is_announced_with_its_partition_and_its_state(sent: list[tuple[str, str, str]]) -> None:
    asyncio.run(deadlines.notify_late(CONTEXT))
    assert sent == [
        (
            "churn",
            "churn is late for 2013-01-10",
            "The run scheduled__2013-01-11T05:00:00+00:00 of churn did not succeed by 2013-01-11 06:00 UTC and is "
            "running. Open it in Airflow to see which task waits or failed.",
        )
    ]


def test_a_run_without_a_partition_is_announced_too(sent: list[tuple[str, str, str]]) -> None:
    asyncio.run(deadlines.notify_late({**CONTEXT, "dag_run": {**CONTEXT["dag_run"], "partition_key": None}}))
    assert [subject for _, subject, _ in sent] == ["churn is late"]


def test_runs_of_a_backfill_are_not_announced_because_they_wait_for_each_other(
    sent: list[tuple[str, str, str]],
) -> None:
    asyncio.run(deadlines.notify_late({**CONTEXT, "dag_run": {**CONTEXT["dag_run"], "run_type": "backfill"}}))
    assert sent == []


def test_the_deadline_starts_when_a_run_is_queued() -> None:
    alert = deadlines.alert_after(timedelta(hours=2))
    assert alert.reference == DeadlineReference.DAGRUN_QUEUED_AT
    assert alert.interval == timedelta(hours=2)
