"""An alert when a run of a DAG is late.

A deadline belongs to a run: declare it in the DAG whose runs exist also when the data is late. The triggerer sends the
alert to those that the DAG declares as `notify`, because the KubernetesExecutor runs no callbacks of deadlines.

`airflow dags test` of a DAG with a deadline ends with an error after its last task: Airflow 3.3.2 looks up the alert in
the database, where this command does not store it.
"""

import asyncio
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from ml_common import notification


def alert_after(interval: timedelta) -> DeadlineAlert:
    """Return an alert for each run that has not succeeded this long after it was queued, also if it has failed."""
    return DeadlineAlert(
        # Runs of partitions have no logical date.
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        callback=AsyncCallback(notify_late),
    )


async def notify_late(context: dict[str, Any]) -> None:
    """Send a notification about the run that missed its deadline, unless it waited for other runs of a backfill.

    Args:
        context: The run and the deadline, as Airflow gives them to the callback of a deadline.
    """
    run, due = context["dag_run"], context["deadline"]["deadline_time"]
    if run["run_type"] == "backfill":
        return
    of_partition = f" for {run['partition_key']}" if run["partition_key"] else ""
    text = (
        f"The run {run['dag_run_id']} of {run['dag_id']} did not succeed by {due:%Y-%m-%d %H:%M} UTC and is "
        f"{run['state']}. Open it in Airflow to see which task waits or failed."
    )
    await asyncio.to_thread(notification.notify, run["dag_id"], f"{run['dag_id']} is late{of_partition}", text)
