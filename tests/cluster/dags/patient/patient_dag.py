"""A task that runs long enough to be disturbed, with retries."""

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task


@dag(dag_id="patient", schedule=None, catchup=False)
def patient() -> None:
    """Wait, then return a value."""

    @task(retries=3, retry_delay=timedelta(seconds=1))
    def wait() -> int:
        print("waiting", flush=True)
        time.sleep(30)
        return 1

    @task(retries=3, retry_delay=timedelta(seconds=1))
    def afterwards(number: int) -> None:
        print("the number is", number, flush=True)

    number: Any = wait()
    afterwards(number)


patient()
