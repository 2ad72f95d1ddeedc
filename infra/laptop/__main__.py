"""The commands behind `make up`, `down`, `clean`, `status`, `login` and `logs`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table
from rich.text import Text

from infra.airflow_api import AirflowApiError
from infra.console import new_console
from infra.errors import OperationError
from infra.laptop import images, laptop, object_store, processes, serving
from infra.laptop.home import DEFAULT_HOME, Home
from infra.laptop.laptop import DAG, Laptop
from infra.laptop.params import parameters
from infra.laptop.progress import follow
from infra.laptop.report import Stages, failure, show, show_services
from infra.paths import user_path

console = new_console(soft_wrap=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.laptop", description=__doc__)
    parser.add_argument(
        "--home",
        type=user_path,
        default=user_path(os.environ.get("LAPTOP_HOME") or str(DEFAULT_HOME)),
        help="the folder that holds data, logs and passwords (default: $LAPTOP_HOME, else %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up", help="start everything, run the DAG and show its results")
    up_parser.add_argument("--images", type=user_path, help="a folder with a sub-folder of images for each class")
    up_parser.add_argument("--params", default="", help='Params of the DAG, such as "epochs=3 minimum_accuracy=0.9"')
    up_parser.add_argument("--no-run", action="store_true", help="start the services only")
    commands.add_parser("down", help="stop everything; data is kept")
    commands.add_parser("clean", help="stop everything and delete the data")
    commands.add_parser("status", help="show each process; the exit code is 1 unless all are healthy")
    commands.add_parser("login", help="show the addresses of the user interfaces and the passwords")
    logs_parser = commands.add_parser("logs", help="follow the log of one process")
    logs_parser.add_argument("service", nargs="?")
    roll_out_parser = commands.add_parser("roll-out", help="serve a version of the model; the DAG's task calls it")
    roll_out_parser.add_argument("version")
    arguments = parser.parse_args()
    home = Home(Path(os.path.realpath(arguments.home)))
    # Everything that is created here is this user's alone, whatever the user's umask.
    os.umask(0o077)
    try:
        with home.writing():
            run_command(home, arguments)
    except (OperationError, AirflowApiError) as error:
        sys.exit(f"error: {error}")
    except (httpx.HTTPError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: a service failed ({error}): `make status` shows which, `make up` starts what does not run")
    except KeyboardInterrupt:
        sys.exit("interrupted: what was started goes on; `make up` continues, `make down` stops it")


def run_command(home: Home, arguments: argparse.Namespace) -> None:
    """Run one command."""
    home.check()
    match arguments.command:
        case "up":
            up(home, arguments.images, parameters(arguments.params), run=not arguments.no_run)
        case "down":
            down(home)
        case "clean":
            clean(home)
        case "status":
            status(home)
        case "login":
            show_services(console, Laptop.known(home), passwords=True)
        case "logs":
            logs(home, arguments.service)
        case "roll-out":
            roll_out(home, arguments.version)


def up(home: Home, folder: Path | None, chosen: dict[str, Any], *, run: bool) -> None:
    """Start what is not running, run the DAG and show what came out of it."""
    stages = Stages()
    pictures = list(images.folder(folder)) if folder else None
    prefix = images.prefix_of(folder) if folder else images.DIGITS_PREFIX

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
    machine.unpause_dag(api, say)
    conf = {"prefix": prefix, **chosen}
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


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line)


if __name__ == "__main__":
    main()
