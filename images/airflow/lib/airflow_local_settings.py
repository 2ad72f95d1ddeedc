"""Airflow's local settings: a task whose pod was refused fails at once, with the reason in its log.

https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
"""

import os
from typing import Any

# Airflow copies everything else into its own settings.
__all__ = ["task_policy"]

# The variable with which images/airflow/lib/task_pods.py says why it started another pod than the task asked for.
REFUSED = "TASK_POD_REFUSED"


def task_policy(task: Any) -> None:
    """Make a task fail if its pod was refused; Airflow calls this function for each task when it reads a DAG file."""
    if REFUSED not in os.environ:
        return
    if hasattr(task, "partial_kwargs"):  # a mapped task, whose operator is made when it runs
        task.partial_kwargs["pre_execute"] = _fail
    else:
        task._pre_execute_hook = _fail


def _fail(_context: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    raise AirflowFailException(
        f"The pod of this task was refused: {os.environ[REFUSED]}. Change the task's executor_config."
    )
