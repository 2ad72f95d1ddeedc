"""The commands that run Airflow on this machine."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table
from rich.text import Text

from infra.errors import OperationError
from ops.airflow_api import AirflowApiError
from ops.cli.options import completed_stacks
from ops.console import echo, new_console
from ops.laptop import (
    airflow,
    flights,
    images,
    laptop,
    object_store,
    ports,
    processes,
    progress,
    serving,
    zenml,
    zenml_demo,
)
from ops.laptop.home import DEFAULT_HOME, Home
from ops.laptop.laptop import DAG, Laptop
from ops.laptop.params import image_classifier_schemas, parameters
from ops.laptop.report import Stages, failure, show, show_services
from ops.paths import user_path

console = new_console(soft_wrap=True)


class Demo(StrEnum):
    """What `make up` runs instead of the image classifier."""

    FLIGHTS = "flights"


HomeFolder = Annotated[
    Path,
    typer.Option(
        "--home", envvar="LAPTOP_HOME", parser=user_path, help="The folder that holds data, logs and passwords."
    ),
]


def up(
    images: Annotated[
        Path | None,
        typer.Option(
            envvar="IMAGES", parser=user_path, metavar="FOLDER", help="A folder with a subfolder of images per class."
        ),
    ] = None,
    params: Annotated[
        str, typer.Option(envvar="PARAMS", help='Params of the DAG, such as "epochs=3 minimum_accuracy=0.9".')
    ] = "",
    demo: Annotated[
        Demo | None, typer.Option(envvar="DEMO", help="Replay months of flights instead of training on images.")
    ] = None,
    with_zenml: Annotated[
        bool, typer.Option("--zenml", envvar="ZENML", help="Start ZenML too, and run a ZenML pipeline instead.")
    ] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Start the services only.")] = False,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Start everything, run the DAG and show its results."""
    if demo and (images or params):
        raise OperationError(f"IMAGES and PARAMS have no effect with DEMO={demo.value}: remove them")
    if with_zenml and (images or params or demo):
        raise OperationError("IMAGES, PARAMS and DEMO have no effect with ZENML=1: remove them")
    with opened(home) as here:
        if with_zenml:
            start_with_zenml(here, run=not no_run)
        elif demo and not no_run:
            replay_flights(here)
        else:
            start(here, images, parameters(params, image_classifier_schemas()), run=not no_run)


def down(home: HomeFolder = DEFAULT_HOME) -> None:
    """Stop everything; data is kept."""
    with opened(home) as here:
        with here.lock():
            stopped = laptop.stop(here)
        echo(f"stopped {', '.join(stopped)}; data is kept in {here.root}" if stopped else "nothing was running")


def clean(home: HomeFolder = DEFAULT_HOME) -> None:
    """Stop everything and delete the data."""
    with opened(home) as here:
        with here.lock():
            laptop.stop(here)
            here.delete()
        echo(f"deleted {here.root}")


def status(
    stack: Annotated[
        str | None,
        typer.Argument(envvar="STACK", autocompletion=completed_stacks, help="The stack; if omitted, this machine."),
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Show each process; the exit code is 1 unless all are healthy."""
    if stack:
        from ops.cli import stacks

        stacks.status(stack)
        return
    with opened(home) as here:
        show_processes(here)


def login(home: HomeFolder = DEFAULT_HOME) -> None:
    """Show the addresses of the user interfaces and the passwords."""
    with opened(home) as here:
        show_services(console, Laptop.known(here), passwords=True)


def logs(
    service: Annotated[str | None, typer.Argument(envvar="S", help="The process, such as scheduler.")] = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Follow the log of one process."""
    with opened(home) as here:
        names = sorted(path.stem for path in here.logs.glob("*.log")) if here.logs.exists() else []
        if service not in names:
            raise OperationError(
                f"S={service or ''} is not a process with a log: set it to one of {', '.join(names)}"
                if names
                else f"nothing was ever started in {here.root}: run `make up`"
            )
        os.execvp("tail", ["tail", "-n", "100", "-F", str(processes.log_file(here, service))])


def roll_out(
    name: Annotated[str, typer.Argument(help="The name under which the DAG serves the model.")],
    model: Annotated[str, typer.Argument(help="The registered model.")],
    version: Annotated[str, typer.Argument(help="The version of the model.")],
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Serve a version of a model and print the address."""
    with opened(home) as here:
        served = serving.Served.named(name, model)
        chosen = ports.add(here, served.process)
        serving.roll_out(here, chosen, version, served)
        echo(serving.url(chosen, served))


@contextmanager
def opened(folder: Path) -> Iterator[Home]:
    """Return the checked home of a folder; turn errors of the services into an OperationError."""
    home = Home(Path(os.path.realpath(folder)))
    # Everything that is created in the home is private, regardless of the user's umask.
    os.umask(0o077)
    try:
        with home.writing():
            home.check()
            yield home
    except AirflowApiError as error:
        raise OperationError(str(error)) from error
    except (httpx.HTTPError, BotoCoreError, ClientError) as error:
        raise OperationError(
            f"a service failed ({error}): see `make status`, then run `make up` to start what is not running"
        ) from error
    except KeyboardInterrupt:
        sys.exit("interrupted: started processes keep running; continue with `make up`, or stop them with `make down`")


def start(home: Home, folder: Path | None, chosen: dict[str, Any], *, run: bool) -> None:
    """Start what is not running, run the DAG and show its results."""
    stages = Stages()
    pictures = list(images.folder(folder)) if folder else None
    prefix = images.prefix_of(folder) if folder else images.DIGITS_PREFIX

    def store_images() -> None:
        bucket = object_store.BUCKETS["data"]
        found = iter(pictures) if pictures is not None else images.digits()
        uploaded = images.store(machine.s3, bucket, prefix, found)
        echo(
            f"{uploaded} images stored in s3://{bucket}/{prefix}"
            if uploaded
            else f"s3://{bucket}/{prefix} is up to date"
        )

    with home.lock():
        machine = Laptop.at(home)
        machine.start(echo, store_images)
        api = machine.api()
        machine.wait_for_dag(api, DAG)
    stages.end("services")
    if not run:
        return
    run_id = progress.start(api, DAG, {"prefix": prefix, **chosen}, echo)
    state, tasks = progress.follow(api, DAG, run_id, console, "make up")
    stages.end("run")
    if state != "success":
        raise failure(api, run_id, tasks, machine)
    show(console, machine, api, run_id, tasks, stages)


def replay_flights(home: Home) -> None:
    """Start what is not running, replay months of flights and show what the monitor measured."""
    stages = Stages()
    with home.lock():
        machine = Laptop.at(home)
        machine.start(echo, lambda: None)
        api = machine.api()
        for dag in flights.DAGS:
            machine.wait_for_dag(api, dag)
    stages.end("services")
    months = flights.Replay(api, console, echo).run()
    stages.end("replay")
    flights.show(console, machine, months)
    console.print(f"assets       {airflow.url(machine.ports)}/assets")
    show_services(console, machine, passwords=sys.stdout.isatty())
    console.print("\nseconds      " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in stages.seconds.items()))


def start_with_zenml(home: Home, *, run: bool) -> None:
    """Start what is not running, and ZenML; run a ZenML pipeline and show where its results are."""
    stages = Stages()
    with home.lock():
        machine = Laptop.at(home, with_zenml=True)
        machine.start(echo, lambda: None)
        api = machine.api()
        zenml.connect(home, machine.ports, api)
        for dag in zenml_demo.DAGS:
            machine.wait_for_dag(api, dag)
    stages.end("services")
    if not run:
        return
    run_id = zenml_demo.run(api, console, echo)
    stages.end("runs")
    finished = api.result(zenml_demo.PIPELINE, run_id, "finish_run")
    console.print(f"\nZenML's run {finished['run']} of Airflow's run {finished['airflow_run']} is {finished['status']}")
    show_services(console, machine, passwords=sys.stdout.isatty())
    console.print("\nseconds      " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in stages.seconds.items()))


def show_processes(home: Home) -> None:
    """Show each process."""
    found = Laptop.known(home).status()
    table = Table(box=None, pad_edge=False)
    for column in ("process", "pid", "port", "health", "MiB"):
        table.add_column(column, justify="right" if column in ("pid", "port", "MiB") else "left", no_wrap=True)
    table.add_column("log", overflow="fold")
    for entry in found:
        state, style = (
            ("healthy", "green") if entry.healthy else ("not answering", "yellow") if entry.pid else ("stopped", "red")
        )
        cells: list[str | Text] = [
            str(entry.pid or ""),
            str(entry.port or ""),
            Text(state, style),
            f"{entry.memory / 2**20:.0f}" if entry.pid else "",
        ]
        table.add_row(entry.name, *cells, Text(entry.log))
    console.print(table)
    console.print(f"total memory: {sum(entry.memory for entry in found) / 2**20:.0f} MiB")
    sys.exit(0 if all(entry.healthy for entry in found) else 1)
