"""Registered MLflow models, whose alias `champion` names the version that is served.

The server's address comes from MLFLOW_TRACKING_URI; model files are written to the object store directly.
"""

import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# MLflow retries for four minutes by default; Airflow's retries cover a longer outage and are visible to the user.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import mlflow.pyfunc
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ml_common.errors import PermanentError, ServiceUnavailableError

CHAMPION = "champion"
TRAINING_KEY = "training_key"
# MLflow takes at most 1,000 metrics and 1 MB in one request: https://mlflow.org/docs/latest/api_reference/rest-api.html
METRICS_PER_REQUEST = 400

WriteFiles = Callable[[Path, Model], None]


@dataclass(frozen=True)
class Run:
    """What MLflow shows about a training.

    Attributes:
        training_key: Identifies the training: recorded again, it is the same run in MLflow.
        name: The name of the run.
        params: The inputs of the training, which do not change.
        metrics: MLflow stores equal ones, with equal timestamps, once.
        files: Files of the run, by name.
        children: Runs that MLflow shows below this one.
    """

    training_key: str
    name: str
    params: Mapping[str, Any]
    metrics: Sequence[Metric]
    files: Mapping[str, bytes] = field(default_factory=dict)
    children: Sequence["Run"] = ()


def champion_version(model: str) -> str | None:
    """Return the version that the alias `champion` names, or None before the first one."""
    with clear_errors("look up the champion"):
        try:
            return str(MlflowClient().get_model_version_by_alias(model, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise


def tags(model: str, version: str) -> dict[str, str]:
    """Return the tags of a version."""
    with clear_errors(f"read the tags of version {version}"):
        return dict(MlflowClient().get_model_version(model, version).tags)


def load(model: str, version: str) -> PyFuncModel:
    """Load a version with the code that it carries."""
    with clear_errors(f"load version {version}"):
        return mlflow.pyfunc.load_model(f"models:/{model}/{version}")


@contextmanager
def downloaded(model: str, version: str) -> Iterator[Path]:
    """Download the files of a version to a folder that exists until the end of the block."""
    with clear_errors(f"load version {version}"), tempfile.TemporaryDirectory() as folder:
        yield Path(mlflow.artifacts.download_artifacts(f"models:/{model}/{version}", dst_path=folder))


def promote(model: str, version: str) -> None:
    """Set the alias `champion` to `version`."""
    with clear_errors(f"make version {version} the champion"):
        MlflowClient().set_registered_model_alias(model, CHAMPION, version)


def describe(model: str, version: str, markdown: str) -> None:
    """Set the description of a version."""
    with clear_errors(f"describe version {version}"):
        MlflowClient().update_model_version(model, version, markdown)


def record(model: str, run: Run) -> None:
    """Record a training in the model's experiment without registering a version."""
    with clear_errors("record the training"):
        client = MlflowClient()
        experiment_id = _experiment_id(client, model)
        with _running(client, experiment_id, run) as run_id:
            _log(client, experiment_id, run_id, run)


def register(model: str, run: Run, write_files: WriteFiles, version_tags: Mapping[str, str] | None = None) -> str:
    """Record a training, register its model, and return the version; a training key is registered once.

    The version is created last, when everything that it refers to is stored. A run that fails midway is marked FAILED
    in MLflow, and the next attempt continues it.

    Args:
        model: The name of the registered model.
        run: What MLflow shows about the training.
        write_files: Writes the files of the version to an empty folder, for this entry in MLflow.
        version_tags: Tags of the version besides its training key.
    """
    with clear_errors("register the model"):
        client = MlflowClient()
        _create_registered_model(client, model)
        if existing := _version_by_training_key(client, model, run.training_key):
            return existing
        experiment_id = _experiment_id(client, model)
        with _running(client, experiment_id, run) as run_id:
            _log(client, experiment_id, run_id, run)
            logged_model = _log_model(client, experiment_id, run_id, model, run.training_key, write_files)
        version = client.create_model_version(
            model,
            source=logged_model.artifact_location,
            run_id=run_id,
            model_id=logged_model.model_id,
            tags={**(version_tags or {}), TRAINING_KEY: run.training_key},
        )
        return str(version.version)


def pinned(packages: Iterable[str]) -> list[str]:
    """Return the installed packages as requirements, without the suffix of a build, such as +cpu."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in packages]


@contextmanager
def clear_errors(action: str) -> Iterator[None]:
    """Turn the errors of MLflow and of the object store into those of a step.

    Args:
        action: What could not be done, as in "Could not look up the champion".

    Raises:
        PermanentError: MLFLOW_TRACKING_URI is not set, or MLflow refused the request.
        ServiceUnavailableError: MLflow or the object store does not answer.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise PermanentError(
            f"Could not {action}: MLFLOW_TRACKING_URI is not set: set it to the MLflow server's address."
        )
    try:
        yield
    except MlflowException as error:
        sentence = " ".join(str(error).split())
        if error.get_http_status_code() in range(400, 429):
            raise PermanentError(f"Could not {action}: MLflow at {address} answered: {sentence}") from error
        raise ServiceUnavailableError(
            f"Could not {action}: MLflow at {address} does not answer; check that it is running ({sentence[:200]})."
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailableError(f"Could not {action}: the object store failed ({error}).") from error


@contextmanager
def _running(client: MlflowClient, experiment_id: str, run: Run, parent_id: str | None = None) -> Iterator[str]:
    """Continue or start the run of a training key, and mark it FAILED or FINISHED at the end of the block."""
    run_tags = {TRAINING_KEY: run.training_key} | ({MLFLOW_PARENT_RUN_ID: parent_id} if parent_id else {})
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in run_tags.items())
    if found := client.search_runs([experiment_id], wanted, max_results=1):
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, "RUNNING")
    else:
        run_id = str(client.create_run(experiment_id, run_name=run.name, tags=run_tags).info.run_id)
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)


def _log(client: MlflowClient, experiment_id: str, run_id: str, run: Run) -> None:
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in run.params.items()])
    for start in range(0, len(run.metrics), METRICS_PER_REQUEST):
        client.log_batch(run_id, run.metrics[start : start + METRICS_PER_REQUEST])
    with tempfile.TemporaryDirectory() as folder:
        for name, content in run.files.items():
            Path(folder, name).write_bytes(content)
        client.log_artifacts(run_id, folder)
    for child in run.children:
        with _running(client, experiment_id, child, run_id) as child_id:
            _log(client, experiment_id, child_id, child)


def _log_model(
    client: MlflowClient, experiment_id: str, run_id: str, model: str, training_key: str, write_files: WriteFiles
) -> LoggedModel:
    """Upload the files of a version to a new entry, and mark it READY, or FAILED if that fails."""
    logged_model = client.create_logged_model(
        experiment_id, model, source_run_id=run_id, tags={TRAINING_KEY: training_key}
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), Model(model, run_id, model_id=logged_model.model_id))
            client.log_model_artifacts(logged_model.model_id, folder)
    except BaseException:
        client.finalize_logged_model(logged_model.model_id, "FAILED")
        raise
    return client.finalize_logged_model(logged_model.model_id, "READY")


def _experiment_id(client: MlflowClient, model: str) -> str:
    experiment = client.get_experiment_by_name(model)
    return str(experiment.experiment_id) if experiment else str(client.create_experiment(model))


def _create_registered_model(client: MlflowClient, model: str) -> None:
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_by_training_key(client: MlflowClient, model: str, training_key: str) -> str | None:
    versions: list[ModelVersion] = client.search_model_versions(
        f"name = '{model}' and tags.{TRAINING_KEY} = '{training_key}'"
    )
    return str(versions[0].version) if versions else None
