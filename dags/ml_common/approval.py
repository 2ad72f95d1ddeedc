"""A task that asks a person, and keeps the answer also if it is a rejection."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

TASK_ID = "approval"


def approval(subject: str) -> "Approval":
    """Return the task that asks a person for three days, with the summary that the task `gate` has returned."""
    return Approval(
        task_id=TASK_ID,
        subject=subject,
        body="{{ ti.xcom_pull(task_ids='gate')['summary'] }}",
        defaults=Approval.REJECT,
        response_timeout=timedelta(days=3),
    )


class Approval(ApprovalOperator):
    """An ApprovalOperator whose answer is in XCom also after a rejection, which ends the task before it returns."""

    def skip(self, ti: Any, tasks: Any) -> None:
        """Store the answer, and skip the tasks that follow."""
        ti.xcom_push(key="return_value", value=self._answer)
        super().skip(ti, tasks)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Remember the answer for `skip`."""
        user = event.get("responded_by_user")
        self._answer = {"chosen_options": event.get("chosen_options"), "responded_by_user": user}
        return super().execute_complete(context, event)
