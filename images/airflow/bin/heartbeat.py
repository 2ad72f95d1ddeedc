"""Fail if a component of this pod has stopped writing its heartbeat: a liveness probe for components without HTTP.

`airflow jobs check` does the same, but takes 3 CPU-seconds. A database that does not answer is not a reason to restart.
"""

import socket
import sys
from pathlib import Path

import psycopg2

# Twice [triggerer] triggerer_health_check_threshold and [dag_processor] health_check_threshold: a component that the
# user interface shows as unhealthy may just be slow, and recover.
MAX_AGE_SECONDS = 60

# As in infra/airflow/values.py.
CONNECTION = Path("/opt/airflow/secrets/connection")

LATEST = """
SELECT extract(epoch FROM now() - max(latest_heartbeat))
FROM job WHERE job_type = %s AND hostname = %s
"""


def main() -> None:
    """Check the job type that the first argument names, such as TriggererJob."""
    try:
        connection = psycopg2.connect(CONNECTION.read_text(), connect_timeout=5)
    except psycopg2.OperationalError as error:
        print(f"the metadata database does not answer: {error}")  # noqa: T201
        return
    try:
        age = seconds_since_heartbeat(connection, sys.argv[1], socket.getfqdn())
    finally:
        connection.close()
    if age is None or age > MAX_AGE_SECONDS:
        sys.exit(f"{sys.argv[1]} of {socket.getfqdn()} has had no heartbeat for {MAX_AGE_SECONDS} s")


def seconds_since_heartbeat(connection: psycopg2.extensions.connection, job_type: str, host: str) -> float | None:
    """Return the age of the newest heartbeat, or None before the first one."""
    with connection.cursor() as cursor:
        cursor.execute(LATEST, (job_type, host))
        row = cursor.fetchone()
    return float(row[0]) if row and row[0] is not None else None


if __name__ == "__main__":
    main()
