"""The users of the components that run authors' code, in a database of this Airflow version."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import errors

from infra.airflow_names import DATABASE_USERS
from infra.documents import REPOSITORY
from ops.loopback import LOOPBACK
from tests.database_server import Server, running

IMAGE = REPOSITORY / "images" / "airflow"
DAG_PROCESSOR, TRIGGERER = (f"airflow-{component}" for component in DATABASE_USERS)
PASSWORDS = {"airflow": "one", DAG_PROCESSOR: "its own", TRIGGERER: "its own"}
TASK = "('dag', 'task', 'run', -1)"
DAG = """
from datetime import timedelta

from airflow.providers.standard.triggers.file import FileDeleteTrigger
from airflow.sdk import Asset, AssetAlias, AssetWatcher, AsyncCallback, DeadlineAlert, DeadlineReference, dag, task

watcher = AssetWatcher(name="watcher", trigger=FileDeleteTrigger(filepath="/watched", poke_interval=60))
late = AsyncCallback("late.late")
deadline = DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=1), callback=late)


@dag(
    schedule=[Asset("in", watchers=[watcher])], catchup=False, tags=["tag"], owner_links={"airflow": "https://x"},
    deadline=deadline, access_control={"Viewer": {"can_read"}},
)
def everything():
    @task(inlets=[Asset("inlet")], outlets=[Asset("out"), AssetAlias("alias")])
    def step(): ...

    step()


everything()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        server.run_script("airflow", "one", {user: PASSWORDS[user] for user in (DAG_PROCESSOR, TRIGGERER)})
        yield server


def environment(server: Server, user: str, home: Path, **options: str) -> dict[str, str]:
    """Return the variables of a component that logs in to the database as a user."""
    address = f"postgresql://{user}:{PASSWORDS[user].replace(' ', '%20')}@{LOOPBACK}:{server.port}/airflow"
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(IMAGE / "lib"),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # Airflow watches no assets for paused DAGs
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        **options,
    }


def prepare(server: Server, home: Path) -> None:
    """Run what the migration Job runs."""
    login = {"AIRFLOW_ADMIN_USERNAME": "admin", "AIRFLOW_ADMIN_PASSWORD": "admin"}
    done = subprocess.run(
        [sys.executable, str(IMAGE / "bin" / "prepare_database.py")],
        env=environment(server, "airflow", home, AIRFLOW__CORE__FERNET_KEY=Fernet.generate_key().decode(), **login),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture(scope="module")
def prepared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Return the server after a deployment, with an ended try of a task."""
    prepare(server, tmp_path_factory.mktemp("airflow"))
    with connect(server, "airflow") as connection:
        connection.execute(
            "INSERT INTO dag_bundle (name, active) VALUES ('b', true) ON CONFLICT DO NOTHING;"
            "INSERT INTO dag (dag_id, bundle_name, is_paused, is_stale, fileloc, max_active_tasks, max_active_runs,"
            " max_consecutive_failed_dag_runs, has_task_concurrency_limits, has_import_errors, fail_fast,"
            " partition_mapper_info, timetable_type, timetable_partitioned, timetable_periodic,"
            " exceeds_max_non_backfill)"
            " VALUES ('dag', 'b', false, false, '', 1, 1, 1, false, false, false, '{}', '', false, false, false);"
            "INSERT INTO dag_run (dag_id, run_id, run_type, run_after, state, clear_number, log_template_id)"
            " VALUES ('dag', 'run', 'manual', now(), 'running', 0, (SELECT max(id) FROM log_template));"
            "INSERT INTO task_instance (id, dag_id, task_id, run_id, map_index, pool, pool_slots, span_status,"
            " try_number, executor_config)"
            " VALUES (gen_random_uuid(), 'dag', 'task', 'run', -1, 'p', 1, 'x', 1, '\\x01')"
        )
    return server


def connect(server: Server, user: str) -> psycopg.Connection:
    return server.connect(user, PASSWORDS[user], "airflow")


def denied(server: Server, user: str, statement: str) -> str:
    """Return the message with which PostgreSQL refuses a statement."""
    with connect(server, user) as connection, pytest.raises(errors.InsufficientPrivilege) as refused:
        connection.execute(statement.encode())
    return str(refused.value)


@pytest.mark.parametrize("user", [DAG_PROCESSOR, TRIGGERER])
def test_a_user_of_a_component_reads_no_users_roles_or_sessions(prepared: Server, user: str) -> None:
    with connect(prepared, "airflow") as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename ~ '^(ab_|session|revoked)'"
        ).fetchall()
    assert len(tables) > 8
    for (table,) in tables:
        assert denied(prepared, user, f"SELECT FROM {table}") == f"permission denied for table {table}"


@pytest.mark.parametrize("user", [DAG_PROCESSOR, TRIGGERER])
@pytest.mark.parametrize("table", ["task_instance", "task_instance_history"])
def test_a_user_of_a_component_cannot_change_a_pickled_column(prepared: Server, user: str, table: str) -> None:
    statement = f"UPDATE {table} SET executor_config = '\\x02'"
    assert denied(prepared, user, statement) == f"permission denied for table {table}"


@pytest.mark.parametrize("table", ["connection", "variable", "connection_test_request"])
def test_the_dag_processor_reads_no_connections_and_variables(prepared: Server, table: str) -> None:
    assert denied(prepared, DAG_PROCESSOR, f"SELECT FROM {table}") == f"permission denied for table {table}"


@pytest.mark.parametrize(
    ("user", "statement", "table"),
    [
        (DAG_PROCESSOR, "UPDATE task_instance SET state = 'success'", "task_instance"),
        (DAG_PROCESSOR, "UPDATE dag_run SET state = 'success'", "dag_run"),
        (DAG_PROCESSOR, "UPDATE dag_bundle SET signed_url_template = 'x'", "dag_bundle"),
        (DAG_PROCESSOR, "DELETE FROM dag", "dag"),
        (DAG_PROCESSOR, "SELECT event FROM log", "log"),
        (TRIGGERER, "UPDATE connection SET host = 'x'", "connection"),
        (TRIGGERER, "INSERT INTO variable (key, val) VALUES ('x', 'y')", "variable"),
        (TRIGGERER, "UPDATE serialized_dag SET dag_hash = 'x'", "serialized_dag"),
        (TRIGGERER, "UPDATE task_instance SET hostname = 'x'", "task_instance"),
    ],
)
def test_postgresql_refuses(prepared: Server, user: str, statement: str, table: str) -> None:
    assert denied(prepared, user, statement) == f"permission denied for table {table}"


def test_the_triggerer_reads_connections_and_resumes_tasks(prepared: Server) -> None:
    with connect(prepared, TRIGGERER) as connection:
        connection.execute("SELECT * FROM connection")
        connection.execute("SELECT * FROM variable")
        connection.execute("UPDATE task_instance SET state = 'scheduled', trigger_id = NULL, next_method = 'resume'")


def test_the_copy_of_an_ended_try_has_the_pickled_column_of_the_task(prepared: Server) -> None:
    with connect(prepared, TRIGGERER) as connection:
        connection.execute(
            "INSERT INTO task_instance_history (task_instance_id, dag_id, task_id, run_id, map_index, try_number, pool,"
            " pool_slots, executor_config) VALUES (gen_random_uuid(), 'dag', 'task', 'run', -1, 1, 'p', 1, '\\x02')"
        )
        [row] = connection.execute("SELECT executor_config FROM task_instance_history").fetchall()
    assert row == (b"\x01",)


def test_a_deployment_takes_back_every_right_that_its_release_does_not_list(prepared: Server, tmp_path: Path) -> None:
    with connect(prepared, "airflow") as connection:
        for right in ("SELECT ON ab_user", "UPDATE (executor_config) ON task_instance"):
            connection.execute(f'GRANT {right} TO "{TRIGGERER}"'.encode())
    with connect(prepared, TRIGGERER) as connection:
        connection.execute("UPDATE task_instance SET executor_config = executor_config")
    prepare(prepared, tmp_path)
    assert "permission denied" in denied(prepared, TRIGGERER, "SELECT FROM ab_user")
    assert "permission denied" in denied(prepared, TRIGGERER, "UPDATE task_instance SET executor_config = NULL")


def test_the_dag_processor_stores_every_kind_of_dag_as_its_user_and_without_a_key(
    prepared: Server, tmp_path: Path
) -> None:
    (tmp_path / "dags").mkdir()
    file = tmp_path / "dags" / "everything_dag.py"
    file.write_text(DAG)
    (tmp_path / "dags" / "broken_dag.py").write_text("from airflow.sdk import dag\nimport nothing_of_this_name\n")
    with running_dag_processor(prepared, tmp_path):
        wait_for(prepared, "SELECT 1 FROM import_error WHERE stacktrace LIKE '%nothing_of_this_name%'", tmp_path)
        wait_for(prepared, "SELECT 1 FROM serialized_dag WHERE dag_id = 'everything'", tmp_path)
        wait_for(prepared, "SELECT 1 FROM trigger WHERE kwargs LIKE '{%/watched%'", tmp_path)
        file.write_text(
            DAG.replace('["tag"]', "[]").replace("https://x", "https://y").replace("watchers=[watcher]", "")
        )
        wait_for(prepared, "SELECT 1 WHERE NOT EXISTS (SELECT FROM asset_watcher)", tmp_path)
        wait_for(prepared, "SELECT 1 FROM dag_owner_attributes WHERE link = 'https://y'", tmp_path)
        file.unlink()
        wait_for(prepared, "SELECT 1 FROM dag WHERE dag_id = 'everything' AND is_stale", tmp_path)
    assert "permission denied" not in (tmp_path / "log").read_text()


class running_dag_processor:  # noqa: N801 - a context manager
    def __init__(self, server: Server, home: Path) -> None:
        self._environment = environment(server, DAG_PROCESSOR, home)
        self._log = home / "log"

    def __enter__(self) -> None:
        command = [sys.executable, "-m", "dag_processor"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def wait_for(server: Server, query: str, home: Path, seconds: float = 300) -> None:
    """Wait until a query has a row."""
    deadline = time.monotonic() + seconds
    with connect(server, "airflow") as connection:
        while not connection.execute(query.encode()).fetchone():
            assert time.monotonic() < deadline, (query, (home / "log").read_text()[-3000:])
            time.sleep(0.5)
