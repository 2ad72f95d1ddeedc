"""The commands that run Airflow on this machine."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
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
from ops.airflow_api import AirflowApi, AirflowApiError
from ops.cli.options import completed_stacks
from ops.console import echo, new_console
from ops.laptop import airflow, documents, flights, images, laptop, ports, processes, progress, serving, uploads
from ops.laptop.home import DEFAULT_HOME, Home
from ops.laptop.laptop import DAG, Laptop
from ops.laptop.params import image_classifier_schemas, parameters
from ops.laptop.report import Stages, failure, show, show_services
from ops.laptop.uploads import Destination, Upload
from ops.paths import user_path

console = new_console(soft_wrap=True)


class Demo(StrEnum):
    """What `make up` runs instead of the image classifier."""

    FLIGHTS = "flights"
    DOCS = "docs"


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
        Demo | None,
        typer.Option(
            envvar="DEMO", help="Instead of training on images: replay months of flights, or index the documentation."
        ),
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            envvar="DOCUMENTS", parser=user_path, metavar="FOLDER", help="A folder of documents to index instead."
        ),
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Start the services only.")] = False,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Start everything, run the DAG and show its results."""
    with_documents = documents is not None or demo is Demo.DOCS
    if demo is Demo.FLIGHTS and (images or params or documents):
        raise OperationError(f"IMAGES, DOCUMENTS and PARAMS have no effect with DEMO={demo.value}: remove them")
    if with_documents and images:
        raise OperationError("IMAGES has no effect when documents are indexed: remove it")
    with opened(home) as here:
        if with_documents and not no_run:
            index_documents(here, documents, params)
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
    # A task sets this, because the arguments of a process are visible to other users.
    secrets = json.loads(os.environ.get("SERVING_SECRETS", "{}"))
    with opened(home) as here:
        served = serving.Served.named(name, model)
        chosen = ports.add(here, served.process)
        serving.roll_out(here, chosen, version, served, secrets)
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
    pictures = images.folder(folder) if folder else images.digits()
    to = images.destination(folder)
    with home.lock():
        machine = Laptop.at(home)
        machine.start(echo, lambda: store(machine, to, pictures, "images"))
        api = machine.api()
        machine.wait_for_dag(api, DAG)
    stages.end("services")
    if not run:
        return
    run_id = progress.start(api, DAG, {"prefix": to.prefix, **chosen}, echo)
    state, tasks = progress.follow(api, DAG, run_id, console, "make up")
    stages.end("run")
    if state != "success":
        raise failure(api, run_id, tasks, machine)
    show(console, machine, api, run_id, tasks, stages)


def store(machine: Laptop, to: Destination, files: Iterable[Upload], kind: str) -> None:
    """Upload files and say how many."""
    uploaded = uploads.store(machine.s3, to, files)
    address = f"s3://{to.bucket}/{to.prefix}"
    echo(f"{uploaded} {kind} stored in {address}" if uploaded else f"{address} is up to date")


def index_documents(home: Home, folder: Path | None, params: str) -> None:
    """Start what is not running, index the documents and show some answers."""
    stages = Stages()
    files = documents.in_folder(folder) if folder else documents.of_repository()
    to, index = documents.destination(folder), documents.index_name(folder)
    with home.lock():
        machine = Laptop.at(home)
        machine.start(echo, lambda: store(machine, to, files, "files"))
        api = machine.api()
        machine.wait_for_dag(api, documents.DAG)
    stages.end("services")
    chosen = parameters(params, api.params(documents.DAG))
    run_id = progress.start(api, documents.DAG, {"index": index, "prefix": to.prefix, **chosen}, echo)
    state, tasks = progress.follow(api, documents.DAG, run_id, console, "make up")
    stages.end("run")
    if state != "success":
        raise OperationError("\n".join(progress.failures(api, documents.DAG, run_id, tasks)))
    of_index = {"index": index, "prefix": to.prefix, "language": chosen.get("language", "english")}
    address = serve_answers(api, of_index)
    stages.end("answers")
    documents.show(console, machine, api, run_id, index, address)
    show_services(console, machine, passwords=sys.stdout.isatty())
    stages.show(console)


def serve_answers(api: AirflowApi, of_index: dict[str, Any]) -> str | None:
    """Let docs_assistant choose and serve what answers questions; return its address, or None if it was refused."""
    run_id = progress.start(api, documents.ASSISTANT, of_index, echo)
    state, tasks = progress.follow(api, documents.ASSISTANT, run_id, console, "make up")
    if state == "success":
        return str(api.result(documents.ASSISTANT, run_id, "deploy"))
    why = "\n".join(progress.failures(api, documents.ASSISTANT, run_id, tasks))
    echo(f"warning: the documents are indexed, but no page answers questions about them: {why}")
    return None


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
    stages.show(console)


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
