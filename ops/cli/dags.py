"""The commands for DAGs."""

from typing import Annotated

import typer

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.airflow_api import AirflowApi
from ops.cli.laptop import HomeFolder, opened
from ops.cli.options import StackOrThisMachine
from ops.console import echo, new_console
from ops.dags.scaffold import write_dag
from ops.laptop import progress
from ops.laptop.home import DEFAULT_HOME
from ops.laptop.laptop import Laptop
from ops.laptop.params import parameters

console = new_console(soft_wrap=True)


def dag(name: Annotated[str, typer.Argument(envvar="NAME", help="The ID of the new DAG, such as churn.")]) -> None:
    """Write a new DAG."""
    for file in write_dag(name):
        echo(f"wrote {file.relative_to(REPOSITORY)}")
    echo(f"run it with `make run DAG={name}`, and its test with `make test`")


def run(
    dag: Annotated[str, typer.Argument(envvar="DAG", help="The ID of the DAG, such as churn.")],
    params: Annotated[str, typer.Option(envvar="PARAMS", help='Params of the DAG, such as "limit=10".')] = "",
    stack: StackOrThisMachine = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Run a DAG with Params and follow it until it has ended."""
    if stack:
        from ops.airflow.dags import has_account
        from ops.airflow.ui import airflow_forwarded, client
        from ops.stacks.resolve import resolve_running

        running = resolve_running(stack, echo)
        with airflow_forwarded(running) as login, client(login) as api:
            if not api.has_dag(dag):
                raise OperationError(f"{stack} has no DAG {dag}: push dags/{dag} to its branch, see `make status`")
            if not has_account(running, dag):
                echo(f"{dag} is newer than the last deployment: run `make deploy STACK={stack}` to give it its rights")
            run_and_follow(api, dag, params, f"make run DAG={dag} STACK={stack}")
        return
    with opened(home) as here:
        with here.lock():
            machine = Laptop.at(here)
            machine.start(echo, lambda: None)
            api = machine.api()
            if not api.has_dag(dag) and not (REPOSITORY / "dags" / dag).is_dir():
                raise OperationError(f"there is no folder dags/{dag}: correct DAG, or run `make dag NAME={dag}`")
            machine.wait_for_dag(api, dag)  # for a new folder
        run_and_follow(api, dag, params, f"make run DAG={dag}")


def run_and_follow(api: AirflowApi, dag: str, params: str, command: str) -> None:
    """Start a run of a DAG, or find the active run with the same Params, and follow it.

    Raises:
        OperationError: The Params are invalid, or the run failed.
    """
    run_id = progress.start(api, dag, parameters(params, api.params(dag)), echo)
    state, tasks = progress.follow(api, dag, run_id, console, command)
    if state != "success":
        raise OperationError("\n".join(progress.failures(api, dag, run_id, tasks)))
    echo(f"the run {run_id} succeeded")
