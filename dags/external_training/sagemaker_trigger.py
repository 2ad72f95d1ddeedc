"""The trigger that waits for a SageMaker training job."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

ENDED = {"Completed": "success", "Failed": "failed", "Stopped": "stopped"}


class TrainingTrigger(BaseTrigger):
    """Asks for the status of a job until it has ended.

    The provider's trigger needs aiobotocore, which allows only an older multidict. For so few requests, boto3 in a
    thread is enough.
    """

    def __init__(self, job_name: str, aws_conn_id: str, poll_seconds: int) -> None:
        """Describe the wait.

        Args:
            job_name: The name of the job.
            aws_conn_id: The Airflow connection.
            poll_seconds: The time between two requests.
        """
        super().__init__()  # type: ignore[no-untyped-call] # has no types
        self.job_name = job_name
        self.aws_conn_id = aws_conn_id
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes the trigger in the triggerer."""
        arguments = {"job_name": self.job_name, "aws_conn_id": self.aws_conn_id, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send the event that the provider's operator expects."""
        hook: Any = SageMakerHook(aws_conn_id=self.aws_conn_id)  # type: ignore[no-untyped-call] # has no types
        while True:
            found = await asyncio.to_thread(hook.describe_training_job, self.job_name)
            if status := ENDED.get(found["TrainingJobStatus"]):
                reason = found.get("FailureReason") or "SageMaker gives no reason"
                event = {"status": status, "job_name": self.job_name, "message": reason}
                yield TriggerEvent(event)  # type: ignore[no-untyped-call] # has no types
                return
            await asyncio.sleep(self.poll_seconds)
