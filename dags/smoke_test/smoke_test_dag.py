"""
# smoke_test

Checks that a task starts and reaches the services that tasks depend on. `make smoke STACK=<stack>` runs it after a
deployment.

| Task | What it does | When it fails |
| --- | --- | --- |
| reach_services | sends a request to the object store and to MLflow | the log names the service that failed |
| | tries a port that network policies deny | the log says that nothing enforces them |

A cluster without enforcement of network policies fails only if the Param `network_policies` is true, as `make smoke`
sets it on AWS. The DAG writes nothing. If a run stays queued, its pod does not start: `make status STACK=<stack>` shows
why.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from ml_common import pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)


@dag(
    dag_id="smoke_test",
    schedule=None,
    catchup=False,
    # Long enough to start a node for the pod and pull a large image.
    dagrun_timeout=timedelta(minutes=20),
    default_args={
        **DEFAULT_ARGS,
        "executor_config": PODS.on_cpu(),
        "retries": 1,
        "execution_timeout": timedelta(minutes=2),
    },
    params={
        "network_policies": Param(False, type="boolean", description="Fail if nothing enforces network policies."),
    },
    tags=["operations"],
    doc_md=__doc__,
)
def smoke_test() -> None:
    """Wire the task."""

    @task
    def reach_services(params: Any = None) -> None:
        from smoke_test import steps

        steps.reach_object_store()
        steps.reach_model_registry()
        steps.be_confined(required=params["network_policies"])

    reach_services()


smoke_test()
