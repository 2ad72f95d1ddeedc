"""Runs in Weights & Biases, in addition to MLflow, where the environment variable WANDB_MODE is `offline` or `online`.

| mode | what happens |
| --- | --- |
| `disabled` | nothing; wandb is not imported |
| `offline` | nothing leaves the stack: runs are stored in the artifacts bucket, for `wandb sync` |
| `online` | runs are sent with the API key of the Airflow connection `wandb`, to its host if it has one |
"""

import io
import logging
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import artifacts_bucket
from ml_common.registry import Run

log = logging.getLogger(__name__)

MODE = "WANDB_MODE"
CONNECTION = "wandb"
DEFAULT_URL = "https://api.wandb.ai"
# wandb keeps these below the home of the user.
FOLDERS = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
# Only what a run says about the training, and nothing about the machine.
QUIET = {
    "console": "off",
    "disable_git": True,
    "init_timeout": 30,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
}


def record(project: str, run: Run, folder: str) -> None:
    """Record a run with the runs below it, or replace what was recorded; do nothing where it is off.

    Args:
        project: The project in Weights & Biases.
        run: The run.
        folder: The folder of the artifacts bucket for runs that are recorded offline.

    Raises:
        PermanentError: The connection is not defined.
        ServiceUnavailableError: The runs were not sent.
    """
    mode = os.environ.get(MODE, "disabled")
    if mode == "disabled":
        return
    settings = {**QUIET, "mode": mode, **(_server() if mode == "online" else {})}
    with TemporaryDirectory() as temporary:
        for each in (run, *run.children):
            _log(Path(temporary), project, each, run.training_key, settings)
        _finish()
        if mode == "offline":
            key = f"{folder}{run.training_key}.tar.gz"
            artifacts_bucket().put(key, _packed(Path(temporary)), "application/gzip")
            log.info("Stored the run as %s: unpack it, and upload it with `wandb sync`.", artifacts_bucket().uri(key))


def _server() -> dict[str, Any]:
    try:
        connection = Connection.get(CONNECTION)
    except AirflowNotFoundException as error:
        raise PermanentError(
            f"The Airflow connection `{CONNECTION}` is not defined: define it with the API key as its password."
        ) from error
    return {"api_key": connection.password, "base_url": connection.host or DEFAULT_URL}


def _log(folder: Path, project: str, run: Run, group: str, settings: Mapping[str, Any]) -> None:
    os.environ |= {name: str(folder / name) for name in FOLDERS} | {"WANDB_ERROR_REPORTING": "false"}
    import wandb

    files = folder / "files" / run.training_key
    files.mkdir(parents=True)
    try:
        with wandb.init(
            project=project,
            id=run.training_key,
            name=run.name,
            group=group,
            config=dict(run.params),
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(**settings),
        ) as logged:
            for step, values in _history(run):
                logged.log(values, step=step)
            for name, content in run.files.items():
                (files / name).write_bytes(content)
                logged.save(str(files / name), base_path=str(files), policy="now")
    except wandb.errors.Error as error:
        raise ServiceUnavailableError(
            f"Weights & Biases did not take the run {run.name!r} ({error}): check the connection `{CONNECTION}`."
        ) from error


def _finish() -> None:
    """Wait until all is written or sent: the end of a run is only announced to the process that does it."""
    import wandb

    wandb.teardown()


def _history(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the metrics of each step, in order."""
    for step in sorted({metric.step for metric in run.metrics}):
        yield step, {metric.key: metric.value for metric in run.metrics if metric.step == step}


def _packed(folder: Path) -> bytes:
    """Return the recorded runs as an archive, with files in place of links."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", dereference=True) as target:
        for run in sorted(folder.glob("wandb/offline-run-*")):
            target.add(run, run.name, filter=lambda entry: None if "/logs" in entry.name else entry)
    return archive.getvalue()
