"""Many tasks of one second."""

import time
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, task


@dag(dag_id="quick", schedule=None, catchup=False, max_active_tasks=200, params={"tasks": 1})
def quick() -> None:
    """Log when user code begins, and take a second."""

    @task
    def numbers(params: Any = None) -> list[int]:
        return list(range(params["tasks"]))

    @task
    def one_second(_: int) -> str:
        started = datetime.now(UTC).isoformat()
        time.sleep(1)
        return started

    one_second.expand(_=numbers())


quick()
