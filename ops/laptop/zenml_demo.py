"""The demo of ZenML: a month of features, and a ZenML pipeline that trains on them."""

from rich.console import Console

from infra.errors import OperationError
from ops.airflow_api import AirflowApi
from ops.console import Echo
from ops.laptop import progress

FEATURES, PIPELINE = DAGS = ("flight_features", "zenml_flight_model")
# The days that the pipeline reads by default.
DAYS = {"first": "2013-01-01", "last": "2013-01-31"}
COMMAND = "make up ZENML=1"


def run(api: AirflowApi, console: Console, echo: Echo) -> str:
    """Run both DAGs; return the ID of the pipeline's run.

    Raises:
        OperationError: A run failed.
    """
    _run(api, FEATURES, DAYS, console, echo)
    return _run(api, PIPELINE, {}, console, echo)


def _run(api: AirflowApi, dag: str, conf: dict[str, str], console: Console, echo: Echo) -> str:
    run_id = progress.start(api, dag, conf, echo)
    state, tasks = progress.follow(api, dag, run_id, console, COMMAND)
    if state != "success":
        raise OperationError("\n".join(progress.failures(api, dag, run_id, tasks)))
    return run_id
