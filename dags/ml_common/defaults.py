"""Defaults of every DAG's tasks: owner, retries, timeout, and a log line on failure."""

import json
import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from ml_common.errors import PermanentError

log = logging.getLogger(__name__)


def log_failure(context: Any) -> None:
    """Log one JSON line with the task and try that failed, the error, and the address of the log."""
    task_instance = context["ti"]
    failure = {
        "event": "task_failed",
        "dag": task_instance.dag_id,
        "task": task_instance.task_id,
        "run": task_instance.run_id,
        "try": task_instance.try_number,
        "exception": str(context.get("exception")),
        "log_url": task_instance.log_url,
    }
    log.error(json.dumps(failure, ensure_ascii=False))


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "ml-platform",
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=5),
    "retry_policy": ExceptionRetryPolicy(
        [RetryRule(PermanentError, RetryAction.FAIL, reason="a retry cannot fix this error")]
    ),
    "execution_timeout": timedelta(minutes=30),
    "on_failure_callback": log_failure,
}
