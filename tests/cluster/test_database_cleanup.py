"""The nightly clean-up of the metadata database, started by hand."""

from .airflow_client import Airflow
from .stack import NAMESPACE, PLATFORM_NAMESPACE, kubectl

CRON_JOB, JOB = "cronjob/airflow-database-cleanup", "clean-up"
PSQL = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -h localhost -U postgres -d airflow --no-align --tuples-only'


def sql(statement: str) -> str:
    """Run a statement as the administrator of the database server; return its result."""
    return kubectl("exec", "-i", "-n", PLATFORM_NAMESPACE, "postgres-0", "--", "sh", "-c", PSQL, stdin=statement)


def test_a_run_older_than_a_year_is_deleted_with_its_tasks_and_newer_ones_stay(airflow: Airflow) -> None:
    old, new = [airflow.trigger("quick") for _ in range(2)]
    for run in (old, new):
        assert airflow.finish("quick", run, 300) == "success"
    sql(f"UPDATE dag_run SET start_date = start_date - interval '366 days' WHERE run_id = '{old}';")
    kubectl("create", "job", JOB, f"--from={CRON_JOB}", "-n", NAMESPACE)
    kubectl("wait", f"job/{JOB}", "--for=condition=complete", "--timeout=300s", "-n", NAMESPACE)
    runs = {run["dag_run_id"] for run in airflow.get("dags/quick/dagRuns", limit=100)["dag_runs"]}
    assert old not in runs
    assert new in runs
    assert sql(f"SELECT count(*) FROM task_instance WHERE run_id = '{old}';") == "0\n"
    assert not [table for table in sql("SELECT tablename FROM pg_tables;").split() if table.startswith("_airflow_")]
    kubectl("delete", f"job/{JOB}", "-n", NAMESPACE)
