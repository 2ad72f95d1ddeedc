"""A DAG whose documentation is the environment of the process that parses it."""

from pathlib import Path

from airflow.sdk import dag, task

ENVIRONMENT = Path("/proc/self/environ").read_text().replace("\0", "\n")


@dag(dag_id="curious", schedule=None, catchup=False, doc_md=ENVIRONMENT)
def curious() -> None:
    """Do nothing."""

    @task
    def nothing() -> None: ...

    nothing()


curious()
