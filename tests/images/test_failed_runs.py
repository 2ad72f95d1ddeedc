"""The notification of a failed run: Airflow runs a DAG, and a webhook receives the message."""

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.documents import REPOSITORY
from tests import webhook

DAG = """
from datetime import timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(dag_id="churn", schedule=None, default_args={"retries": 1, "retry_delay": timedelta(0)})
def churn():
    @task
    def train(fold):
        raise ValueError(fold)

    @task
    def skipped():
        raise AirflowSkipException

    @task
    def check():
        raise ValueError

    @task
    def report(_trained): ...

    skipped()
    check()
    report(train.expand(fold=[1, 2, 3]))


churn()
"""

# Runs the DAG as `airflow dags test` does, and then the callbacks in the database as the triggerer does.
RUN = """
import asyncio, json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
from airflow.models.callback import Callback
from airflow.models.trigger import Trigger
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.triggers.callback import CallbackTrigger
from sqlalchemy import select
from ml_common import declarations

async def events(trigger):
    return [event.payload["state"] async for event in trigger.run()]

initdb()
declarations.DAGS = Path(sys.argv[1])
run = DagBag(declarations.DAGS).dags["churn"].test()
with create_session() as session:
    callbacks = session.scalars(select(Callback)).all()
    triggers = [CallbackTrigger(**callback.trigger.kwargs) for callback in callbacks]
    ended = [asyncio.run(events(trigger))[-1] for trigger in triggers]
print(json.dumps({"state": run.state, "run": run.run_id, "states": [one.state for one in callbacks], "ended": ended}))
"""


def test_a_failed_run_sends_one_message_however_many_of_its_tasks_and_tries_fail(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "dags" / "churn"
    folder.mkdir(parents=True)
    (folder / "churn_dag.py").write_text(DAG)
    (folder / "dag.yaml").write_text("notify: [team]\n")
    environment = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "images" / "airflow" / "plugins"),
        "PYTHONPATH": str(REPOSITORY / "dags"),
    }
    command = [sys.executable, "-c", RUN, str(tmp_path / "dags")]
    with webhook.running() as slack:
        environment["AIRFLOW_CONN_TEAM"] = json.dumps(slack.connection)
        done = subprocess.run(command, env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    ran = json.loads(done.stdout.splitlines()[-1])
    assert (ran["state"], ran["states"], ran["ended"]) == ("failed", ["queued"], ["success"])
    text = f"The run {ran['run']} of churn failed in check, train. Open it in Airflow to see the logs."
    assert slack.received == [(f"/services/{webhook.KEY}", {"text": f"*churn failed*\n{text}"})]
