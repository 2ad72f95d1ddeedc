"""A DAG whose task looks for Airflow's own secrets and database."""

import os
from pathlib import Path

from airflow.sdk import dag, task

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
HIDDEN = ("SQL_ALCHEMY_CONN", "FERNET", "JWT", "SECRET_KEY")


@dag(dag_id="intruder", schedule=None, catchup=False)
def intruder() -> None:
    """Return what the task can access."""

    @task
    def look() -> dict[str, object]:
        found = {
            "secrets": {
                name: value
                for name, value in os.environ.items()
                if any(word in name for word in HIDDEN) and "AWS" not in name
            },
            "settings": Path(os.environ["AIRFLOW_CONFIG"]).read_text(),
            "token": TOKEN.exists(),
            "user": os.getuid(),
        }
        try:
            Path("/opt/airflow/written").write_text("")
            found["written"] = True
        except OSError:
            found["written"] = False
        try:
            from airflow.utils.session import create_session

            with create_session() as session:
                session.connection()
            found["database"] = True
        except Exception:  # noqa: BLE001 - any error means that the database was not reached
            found["database"] = False
        return found

    look()


intruder()
