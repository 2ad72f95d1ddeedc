"""An Airflow plugin: when a DAG run fails, the triggerer notifies the people that `notify` in its dag.yaml declares.

Airflow calls the listener once for each failed run, also after a timeout or the loss of a task's pod: in the scheduler
or, if a user marks the run as failed, in the api-server. Both have no code of DAGs, so the listener only queues the
callback, as Airflow does for a missed deadline, in the transaction that stores the state of the run.
"""

from contextlib import nullcontext
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

CALLBACK = "ml_common.failures.notify_failed"


class FailedRuns:
    """A listener for the states of DAG runs."""

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """Queue the callback."""
        from airflow.utils.session import create_session
        from sqlalchemy.orm import object_session

        session = object_session(dag_run)
        # In `airflow dags test`, the run belongs to no session.
        with nullcontext(session) if session else create_session(scoped=False) as session:
            queue(dag_run, msg, session)


def queue(dag_run: Any, reason: str, session: Any) -> None:
    """Queue the callback for a failed run in a session of the metadata database."""
    from airflow.models.callback import TriggererCallback
    from airflow.sdk.definitions.callback import AsyncCallback
    from airflow.utils.state import TaskInstanceState

    failed = dag_run.get_task_instances(state=[TaskInstanceState.FAILED], session=session)
    run = {
        "dag_id": dag_run.dag_id,
        "run_id": dag_run.run_id,
        "partition_key": dag_run.partition_key,
        "failed_tasks": sorted({instance.task_id for instance in failed}),
        "reason": reason,
    }
    callback = TriggererCallback(AsyncCallback(CALLBACK, run), dag_id=dag_run.dag_id)
    callback.queue(session=session)
    session.add(callback)


class FailedRunsPlugin(AirflowPlugin):
    """The plugin."""

    name = "failed_runs"
    listeners = [FailedRuns()]  # noqa: RUF012 - Airflow's attribute
