"""
# smoke_test

One task that starts like any other and reaches what tasks depend on. `make smoke STACK=<stack>` runs it after a
deployment.

| Task | What it does | When it fails |
| --- | --- | --- |
| reach_services | asks the object store and MLflow | the log names the one that does not answer, or refuses |

It writes nothing. A run that stays in the queue has no pod: `make status STACK=<stack>` says why.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from ml_common import pods
from ml_common.defaults import DEFAULT_ARGS


@dag(
    dag_id="smoke_test",
    schedule=None,
    catchup=False,
    # A node that is started for the pod, and a large image, fit in.
    dagrun_timeout=timedelta(minutes=20),
    default_args={
        **DEFAULT_ARGS,
        "executor_config": pods.on_cpu(),
        "retries": 1,
        "execution_timeout": timedelta(minutes=2),
    },
    tags=["operations"],
    doc_md=__doc__,
)
def smoke_test() -> None:
    """Wire the step."""

    @task
    def reach_services() -> None:
        from smoke_test import steps

        steps.reach_object_store()
        steps.reach_model_registry()

    reach_services()


smoke_test()
