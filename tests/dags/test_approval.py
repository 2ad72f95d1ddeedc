"""A person's answer."""

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped

from ml_common.approval import Approval

USER = {"id": "1", "name": "ada"}


class Instance:
    """What Airflow passes for the instance of a task, with the values that the task stores."""

    map_index = -1

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.stored[key] = value


@pytest.fixture
def approval() -> Approval:
    with DAG("model"):
        approval = Approval(task_id="approval", subject="Register?")
        approval >> EmptyOperator(task_id="register")
    return approval


def answered(approval: Approval, instance: Instance, option: str) -> Any:
    event = {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime(2013, 4, 29, tzinfo=UTC),
        "responded_by_user": USER,
    }
    return approval.execute_complete({"ti": instance, "task": approval}, event)


def test_an_approval_returns_who_approved(approval: Approval) -> None:
    answer = answered(approval, Instance(), "Approve")
    assert (answer["chosen_options"], answer["responded_by_user"]) == (["Approve"], USER)


def test_a_rejection_skips_the_next_task_and_keeps_who_rejected(approval: Approval) -> None:
    instance = Instance()
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        answered(approval, instance, "Reject")
    assert list(skipped.value.tasks) == ["register"]
    assert instance.stored["return_value"] == {"chosen_options": ["Reject"], "responded_by_user": USER}
