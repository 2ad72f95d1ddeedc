"""The operator of a SageMaker training job that a try before this one may have started."""

from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator

from external_training.sagemaker_trigger import TrainingTrigger
from ml_common.errors import PermanentError


class TrainingOperator(SageMakerTrainingOperator):
    """Waits for a job of the same name, or takes its result; only a failed one is started again, under another name.

    The provider's operator starts another job, which is paid for again.
    """

    def execute(self, context: Any) -> Any:
        """Start the job, unless it exists and did not fail, and wait for it in the triggerer."""
        if not self._usable():
            super().execute(context)
        # A job that is started again has another name.
        name = self.config["TrainingJobName"]
        if self.hook.describe_training_job(name)["TrainingJobStatus"] != "Completed":
            self.defer(
                trigger=TrainingTrigger(name, str(self.aws_conn_id), self.check_interval),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.max_ingestion_time or 0),
            )
        return self.serialize_result(name)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        """Return the description of the job.

        Raises:
            PermanentError: The job failed or was stopped.
        """
        if event and event["status"] != "success":
            raise PermanentError(f"The SageMaker job {event['job_name']} {event['status']}: {event['message']}.")
        return super().execute_complete(context, event)

    def _usable(self) -> bool:
        """Return whether a job of this name exists that did not fail."""
        name = self.config["TrainingJobName"]
        if not self._check_if_job_exists(name, self.hook.describe_training_job):
            return False
        status = self.hook.describe_training_job(name)["TrainingJobStatus"]
        return status not in SageMakerHook.training_failed_states
