"""The commands behind `make up`, `down`, `clean`, `status` and `logs`."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.airflow_api import AirflowApiError
from infra.errors import OperationError
from infra.laptop import images, laptop, object_store, processes, serving
from infra.laptop.home import DEFAULT_HOME, Home
from infra.laptop.laptop import DAG, Laptop
from infra.laptop.progress import follow
from infra.laptop.report import Stages, failure, show
from infra.loopback import LOOPBACK

# Where nobody looks, in a file or a pipe, a table is not squeezed into 80 columns.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.laptop", description=__doc__)
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(os.environ.get("LAPTOP_HOME", DEFAULT_HOME)),
        help="the folder that holds data, logs and passwords (default: $LAPTOP_HOME, else %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up", help="start everything, run the DAG and show its results")
    up_parser.add_argument("--images", type=Path, help="a folder with a sub-folder of images for each class")
    up_parser.add_argument("--params", default="", help='Params of the DAG, such as "epochs=3 minimum_accuracy=0.9"')
    up_parser.add_argument("--no-run", action="store_true", help="start the services only")
    commands.add_parser("down", help="stop everything; data is kept")
    commands.add_parser("clean", help="stop everything and delete the data")
    commands.add_parser("status", help="show each process; the exit code is 1 unless all are healthy")
    logs_parser = commands.add_parser("logs", help="follow the log of one process")
    logs_parser.add_argument("service", nargs="?")
    roll_out_parser = commands.add_parser("roll-out", help="serve a version of the model; the DAG's task calls it")
    roll_out_parser.add_argument("version")
    arguments = parser.parse_args()
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), LOOPBACK]))
    home = Home(arguments.home.resolve())
    try:
        match arguments.command:
            case "up":
                up(home, arguments.images, parameters(arguments.params), run=not arguments.no_run)
            case "down":
                down(home)
            case "clean":
                clean(home)
            case "status":
                status(home)
            case "logs":
                logs(home, arguments.service)
            case "roll-out":
                roll_out(home, arguments.version)
    except (OperationError, AirflowApiError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: what was started goes on; `make up` continues, `make down` stops it")


def up(home: Home, folder: Path | None, params: dict[str, Any], *, run: bool) -> None:
    """Start what is not running, run the DAG and show what came out of it."""
    stages = Stages()
    prefix = images.prefix_of(folder) if folder else images.DIGITS_PREFIX
    pictures = list(images.folder(folder)) if folder else None

    def store_images() -> None:
        bucket = object_store.BUCKETS["data"]
        found = iter(pictures) if pictures is not None else images.digits()
        uploaded = images.store(machine.s3, bucket, prefix, found)
        say(
            f"{uploaded} images stored in s3://{bucket}/{prefix}"
            if uploaded
            else f"s3://{bucket}/{prefix} is up to date"
        )

    with home.lock():
        machine = Laptop.at(home)
        machine.start(say, store_images)
        api = machine.api()
        machine.wait_for_dag(api)
    stages.end("services")
    if not run:
        return
    conf = {"prefix": prefix, **params}
    active = api.active_run(DAG)
    if active and active["conf"] == conf:
        run_id = active["dag_run_id"]
        say(f"following the run {run_id}, which has not ended yet")
    else:
        run_id = api.trigger(DAG, conf)["dag_run_id"]
        say(f"started the run {run_id}")
    state, tasks = follow(api, DAG, run_id, console)
    stages.end("run")
    if state != "success":
        raise failure(api, run_id, tasks, machine)
    show(console, machine, api, run_id, tasks, stages)


def down(home: Home) -> None:
    """Stop everything that was started in this home."""
    with home.lock():
        stopped = laptop.stop(home)
    say(f"stopped {', '.join(stopped)}; data is kept in {home.root}" if stopped else "nothing was running")


def clean(home: Home) -> None:
    """Stop everything and delete the home."""
    with home.lock():
        laptop.stop(home)
        home.delete()
    say(f"deleted {home.root}")


def status(home: Home) -> None:
    """Show each process."""
    found = Laptop.known(home).status()
    table = Table(box=None, pad_edge=False)
    for column in ("process", "pid", "port", "health", "MiB"):
        table.add_column(column, justify="right" if column in ("pid", "port", "MiB") else "left", no_wrap=True)
    table.add_column("log", overflow="fold")
    for entry in found:
        health = (
            "[green]healthy[/]" if entry.healthy else "[yellow]not answering[/]" if entry.pid else "[red]stopped[/]"
        )
        cells = [
            str(entry.pid or ""),
            str(entry.port or ""),
            health,
            f"{entry.memory / 2**20:.0f}" if entry.pid else "",
        ]
        table.add_row(entry.name, *cells, entry.log)
    console.print(table)
    console.print(f"memory of all: {sum(entry.memory for entry in found) / 2**20:.0f} MiB")
    sys.exit(0 if all(entry.healthy for entry in found) else 1)


def logs(home: Home, service: str | None) -> None:
    """Follow the log of one process."""
    names = sorted(path.stem for path in home.logs.glob("*.log")) if home.logs.exists() else []
    if service not in names:
        raise OperationError(f"name a process with S=<name>: {', '.join(names) or 'none has been started yet'}")
    os.execvp("tail", ["tail", "-n", "100", "-F", str(processes.log_file(home, service))])


def roll_out(home: Home, version: str) -> None:
    """Serve a version of the model and print where."""
    machine = Laptop.known(home)
    serving.roll_out(home, machine.ports, version)
    say(serving.url(machine.ports))


def parameters(text: str) -> dict[str, Any]:
    """Read `name=value` pairs; a value that is JSON is taken as such, any other as text.

    Raises:
        OperationError: A word is no pair.
    """
    pairs = [word.partition("=") for word in text.split()]
    for name, equals, _ in pairs:
        if not equals:
            raise OperationError(
                f'PARAMS has the word "{name}": write name=value pairs, such as PARAMS="epochs=3 seed=1"'
            )
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line, markup=False)


if __name__ == "__main__":
    main()
