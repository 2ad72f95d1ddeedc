"""The operator of a SageMaker training job that a try before this one may have started."""

from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
from airflow.providers.amazon.aws.triggers.sagemaker import SageMakerTrigger
from airflow.sdk.exceptions import TaskDeferred


class TrainingOperator(SageMakerTrainingOperator):
    """Waits for a job of the same name, or takes its result; only a failed one is started again, under another name.

    The provider's operator starts another job, which is paid for again.
    """

    def execute(self, context: Any) -> Any:
        """Start the job, unless it exists and did not fail."""
        name = self.config["TrainingJobName"]
        if not self._check_if_job_exists(name, self.hook.describe_training_job):
            return super().execute(context)
        status = self.hook.describe_training_job(name)["TrainingJobStatus"]
        if status in {"Failed", "Stopped"}:
            return super().execute(context)
        if status == "Completed":
            return self.serialize_result(name)
        trigger = SageMakerTrigger(
            job_name=name,
            job_type="Training",
            waiter_delay=self.check_interval,
            waiter_max_attempts=self.max_attempts,
            aws_conn_id=self.aws_conn_id,
        )
        timeout = timedelta(seconds=self.max_ingestion_time or 0)
        raise TaskDeferred(trigger=trigger, method_name="execute_complete", timeout=timeout)
