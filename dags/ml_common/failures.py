"""The notification of a failed DAG run, which images/airflow/plugins/failed_runs.py lets the triggerer send."""

import asyncio
from collections.abc import Sequence

from ml_common import notification

# As Airflow names them; anything else is a sentence.
REASONS = {"timed_out": "it took longer than its dagrun_timeout", "all_tasks_deadlocked": "no task could start"}


async def notify_failed(
    dag_id: str, run_id: str, partition_key: str | None, failed_tasks: Sequence[str], reason: str
) -> None:
    """Send a notification about a failed run.

    Args:
        dag_id: The DAG.
        run_id: The run.
        partition_key: The partition of the run, if it has one.
        failed_tasks: The IDs of the tasks that failed.
        reason: Why the run failed, as Airflow names it.
    """
    what = f"failed in {', '.join(failed_tasks)}" if failed_tasks else f"failed: {REASONS.get(reason, reason)}"
    of_partition = f" for {partition_key}" if partition_key else ""
    text = f"The run {run_id} of {dag_id} {what}. Open it in Airflow to see the logs."
    await asyncio.to_thread(notification.notify, dag_id, f"{dag_id} failed{of_partition}", text)
