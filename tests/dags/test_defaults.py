import json
import logging
from types import SimpleNamespace

import pytest
from airflow.sdk import RetryAction

from ml_common.defaults import DEFAULT_ARGS, log_failure
from ml_common.errors import PermanentError, ServiceUnavailableError


def test_a_failure_is_logged_as_one_json_line(caplog: pytest.LogCaptureFixture) -> None:
    task_instance = SimpleNamespace(
        dag_id="d", task_id="t", run_id="r", try_number=2, log_url="http://airflow/dags/d/runs/r/tasks/t"
    )
    with caplog.at_level(logging.ERROR):
        log_failure({"ti": task_instance, "exception": PermanentError("Zu wenige Bilder für ä.\nMehr bitte.")})
    [record] = caplog.records
    assert "\n" not in record.message
    assert json.loads(record.message) == {
        "event": "task_failed",
        "dag": "d",
        "task": "t",
        "run": "r",
        "try": 2,
        "exception": "Zu wenige Bilder für ä.\nMehr bitte.",
        "log_url": "http://airflow/dags/d/runs/r/tasks/t",
    }


def test_a_permanent_error_is_not_retried_and_an_outage_is() -> None:
    policy = DEFAULT_ARGS["retry_policy"]
    assert policy.evaluate(PermanentError("x"), 1, 3).action is RetryAction.FAIL
    assert policy.evaluate(ServiceUnavailableError("x"), 1, 3).action is RetryAction.DEFAULT
    assert policy.evaluate(KeyError("x"), 1, 3).action is RetryAction.DEFAULT
