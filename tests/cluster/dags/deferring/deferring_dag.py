"""A task that reads a connection, and one whose trigger does."""

from typing import Any

from airflow.providers.common.sql.triggers.sql import SQLExecuteQueryTrigger
from airflow.sdk import BaseOperator, Connection, dag, task

CONNECTION = "elsewhere"


class Query(BaseOperator):
    """Connect to the database of the connection in a trigger, and return what the trigger reports."""

    def execute(self, context: Any) -> None:  # noqa: ARG002 - by name
        """Wait for the trigger."""
        self.defer(trigger=SQLExecuteQueryTrigger(sql="SELECT 1", conn_id=CONNECTION), method_name="report")

    def report(self, context: Any, event: Any) -> str:  # noqa: ARG002
        """Return the error message of the trigger."""
        return str(event["message"])


@dag(dag_id="deferring", schedule=None, catchup=False)
def deferring() -> None:
    """Use the connection."""

    @task
    def password() -> str:
        return str(Connection.get(CONNECTION).password)

    password()
    Query(task_id="query")


deferring()
