"""The start of the process that supervises a task: the collection of garbage, and the imports."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.executors.workloads import ExecuteTask
from airflow.providers.cncf.kubernetes.pod_generator import workload_to_command_args

from infra.documents import REPOSITORY
from infra.helm_values import airflow_settings
from tests.profile_task import SUPERVISOR_IMPORTS

FOLDER = REPOSITORY / "images" / "airflow" / "lib"
SUPERVISOR = "airflow.sdk.execution_time.execute_workload"

# Forks as the supervisor does, and then as a task may: what each process sees of the collection of garbage.
PROGRAM = """
import gc, json, os

def state():
    return {"enabled": gc.isenabled(), "kept": gc.get_freeze_count()}

def forked():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(state()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reader, 1000))

at_start = state()
objects = [[] for _ in range(1000)]
task, supervisor = forked(), state()
more = [[] for _ in range(1000)]
print(json.dumps({"start": at_start, "task": task, "supervisor": supervisor, "process of the task": forked()}))
"""


# What only other components or single tasks need; each takes between 0.1 and 3 seconds.
UNNEEDED = {
    *("kubernetes", "fastapi", "starlette", "uvicorn", "flask", "flask_appbuilder", "alembic", "cadwyn", "aiohttp"),
    *("numpy", "pandas", "torch", "sklearn", "mlflow", "openlineage", "google"),
}
MODULES = 2000


def states(*arguments: str) -> Any:
    """Return what the processes of a Python with these arguments see."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env={"PYTHONPATH": str(FOLDER)}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_no_garbage_is_looked_for_before_the_task_is_forked_and_the_imports_are_kept() -> None:
    seen = states("-m", SUPERVISOR)
    assert seen["start"] == {"enabled": False, "kept": 0}
    assert seen["task"]["enabled"]
    assert seen["supervisor"]["enabled"]
    assert seen["task"]["kept"] > 1000


def test_what_a_task_leaves_behind_can_be_collected_although_it_forks() -> None:
    seen = states("-m", SUPERVISOR)
    assert seen["process of the task"] == seen["task"]


def test_other_programs_of_the_image_collect_garbage_as_usual() -> None:
    seen = states("-m", "airflow")
    assert seen["start"] == seen["process of the task"] == {"enabled": True, "kept": 0}


def test_the_executor_starts_the_supervisor_that_is_meant(workload: ExecuteTask) -> None:
    assert SUPERVISOR in workload_to_command_args(workload)


def test_the_imports_of_the_supervisor_stay_within_their_budget(tmp_path: Path) -> None:
    program = f"import json, sys, {', '.join(SUPERVISOR_IMPORTS)}; print(json.dumps([*sys.modules]))"
    logging = {
        f"AIRFLOW__LOGGING__{option.upper()}": value for option, value in airflow_settings()["logging"].items()
    } | {"AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": "s3://logs/airflow"}
    variables = {"PYTHONPATH": str(FOLDER), "AIRFLOW_HOME": str(tmp_path), "AIRFLOW_CONFIG": "/dev/null", **logging}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    assert {name.partition(".")[0] for name in modules} & UNNEEDED == set()
    assert 1000 < len(modules) < MODULES


@pytest.fixture
def workload() -> ExecuteTask:
    """A task as the scheduler hands it to the executor."""
    identity = "01a221b3-e027-76fe-8141-c36545c284b2"
    task = {"id": identity, "dag_version_id": identity, "dag_id": "d", "task_id": "t", "run_id": "r", "try_number": 1}
    return ExecuteTask.model_validate(
        {
            "token": "token",
            "ti": task | {"pool_slots": 1, "queue": "default", "priority_weight": 1},
            "dag_rel_path": "d.py",
            "bundle_info": {"name": "dags-folder"},
            "log_path": None,
        }
    )
