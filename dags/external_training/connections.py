"""Whether an Airflow connection exists, when a DAG file is parsed.

On a cluster, the code of a DAG file cannot read connections. There the variable EXTERNAL_CONNECTIONS names those that
exist, from the setting `airflow:external_connections`. On a laptop, Airflow is asked.
"""

import json
import os

VARIABLE = "EXTERNAL_CONNECTIONS"


def why_missing(connection: str) -> str | None:
    """Return a sentence that says what to do about a connection that does not exist, or None if it exists."""
    if VARIABLE in os.environ:
        if connection in json.loads(os.environ[VARIABLE]):
            return None
        return f"the connection {connection} is not in the stack's setting airflow:external_connections: add it"
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        Connection.get(connection)
    except AirflowNotFoundException:
        return f"the Airflow connection {connection} does not exist: create it under Admin, Connections"
    return None
