"""Report a run's results, or which task failed and why."""

import json
import sys
import time
from pathlib import PurePosixPath
from shlex import quote as quote_for_shell
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra import mlflow_users
from infra.errors import OperationError
from ops.airflow_api import AirflowApi, Task
from ops.laptop import airflow, mlflow, object_store, serving
from ops.laptop.home import DEFAULT_HOME, write_atomically
from ops.laptop.laptop import DAG, Laptop
from ops.laptop.progress import failures

PICTURES = {"confusion_matrix": "confusions", "predictions": "predictions"}
REPORTING_TASK = "smoke_test"
SUFFIX_CHARACTERS = 16  # of the example's file name, which must not become too long


class Stages:
    """The seconds that each stage of a command took."""

    def __init__(self) -> None:
        """Start the first stage."""
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def end(self, name: str) -> None:
        """End the current stage under this name and start the next."""
        now = time.monotonic()
        self.seconds[name] = now - self._began
        self._began = now

    def show(self, console: Console) -> None:
        """Print the stages that have ended."""
        console.print("\nseconds      " + ", ".join(f"{name} {spent:.0f}" for name, spent in self.seconds.items()))


def show(console: Console, machine: Laptop, api: AirflowApi, run_id: str, tasks: list[Task], stages: Stages) -> None:
    """Print the results of a successful run, and save them and the pictures in the home's folder `results`."""
    report = _fetch(machine, api.result(DAG, run_id, REPORTING_TASK))
    example = _example_image(machine, report)
    console.print(_scores(report))
    console.print(
        Text.assemble((f"\naccuracy {report['accuracy']:.4f}", "bold"), f" on held-out images, on {report['device']}")
    )
    if report["quarantined"]:
        reasons = ", ".join(f"{count} {why}" for why, count in report["quarantined"].items())
        console.print(Text.assemble(("in quarantine:", "yellow"), f" {reasons}"))
    alias = "alias champion" if report["promoted"] else f"not promoted: {report['reason']}"
    console.print(f"\nmodel        {report['model_uri']}")
    console.print(f"MLflow       {report['model_name']} version {report['version']} ({alias})")
    for picture, label in PICTURES.items():
        console.print(f"{label:<12} {machine.home.results / f'{picture}.png'}")
    console.print(f"\nendpoint     {report['endpoint']}/predict")
    console.print(f"health       {report['endpoint']}/healthz returns version {report['champion_version']}")
    console.print(f"             curl -F {quote_for_shell(f'image=@{example}')} {report['endpoint']}/predict")
    console.print(f"run          {_run_url(machine, run_id)}")
    # Output in a file or a pipe is often readable for others, for example in a CI system.
    show_services(console, machine, passwords=sys.stdout.isatty())
    spent = [(name, seconds) for name, seconds in stages.seconds.items()]
    spent += [(f"  {task.name}", task.seconds) for task in tasks if task.seconds is not None]
    console.print("\nseconds      " + ", ".join(f"{name.strip()} {seconds:.1f}" for name, seconds in spent))


def show_services(console: Console, machine: Laptop, *, passwords: bool) -> None:
    """Print the addresses of the user interfaces, and the passwords or the command that shows them."""
    console.print(f"Airflow      {airflow.url(machine.ports)}")
    if passwords:
        console.print(f"             user {airflow.ADMIN}, password {machine.home.secrets.admin}")
    console.print(f"MLflow       {mlflow.url(machine.ports)}")
    if passwords:
        console.print(f"             user {mlflow_users.ADMIN}, password {machine.home.secrets.mlflow_admin}")
    else:
        root = machine.home.root
        home = f"LAPTOP_HOME={quote_for_shell(str(root))} " if root != DEFAULT_HOME else ""
        console.print(f"passwords    {home}make login")


def failure(api: AirflowApi, run_id: str, tasks: list[Task], machine: Laptop) -> OperationError:
    """Return an error that names the failed tasks and has the ends of their logs."""
    paragraphs = failures(api, DAG, run_id, tasks)
    served = serving.served_version(machine.ports)
    paragraphs.append(f"all logs of the run: {_run_url(machine, run_id)}")
    if served:
        paragraphs.append(f"{serving.url(machine.ports)} still serves version {served}")
    return OperationError("\n".join(paragraphs))


def _fetch(machine: Laptop, key: str) -> dict[str, Any]:
    """Read the run's report, and download it and its pictures to the folder `results`."""
    bucket, results = object_store.BUCKETS["artifacts"], machine.home.results

    def read(key: str) -> bytes:
        return bytes(machine.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    text = read(key).decode()
    report: dict[str, Any] = json.loads(text)
    write_atomically(results / "report.json", text)
    for picture in PICTURES:
        (results / f"{picture}.png").write_bytes(read(report[picture]))
    return report


def _example_image(machine: Laptop, report: dict[str, Any]) -> str:
    """Download one of the run's images to the folder `results`, for the `curl` command."""
    bucket = object_store.BUCKETS["data"]
    key = machine.s3.list_objects_v2(Bucket=bucket, Prefix=report["prefix"], MaxKeys=1)["Contents"][0]["Key"]
    path = machine.home.results / f"example{PurePosixPath(key).suffix[:SUFFIX_CHARACTERS]}"
    path.write_bytes(machine.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return str(path)


def _scores(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for column in ("precision", "recall", "F1", "images"):
        table.add_column(column, justify="right")
    for name, scores in report["per_class"].items():
        figures = [f"{scores[score]:.3f}" for score in ("precision", "recall", "f1")]
        table.add_row(Text(name), *figures, str(scores["images"]))
    return table


def _run_url(machine: Laptop, run_id: str) -> str:
    return f"{airflow.url(machine.ports)}/dags/{DAG}/runs/{quote(run_id, safe='')}"
