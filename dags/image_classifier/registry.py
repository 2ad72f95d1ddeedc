"""The registered MLflow model `image_classifier`, whose alias `champion` names the version that is served.

The server's address comes from MLFLOW_TRACKING_URI; model files are written to the object store directly.
"""

import importlib.metadata
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# MLflow retries for four minutes by default; Airflow's retries cover a longer outage and are visible to the user.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import mlflow.pyfunc
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from image_classifier.model import Classifier
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.serving import UPLOAD_FIELD, code_paths

MODEL_NAME = "image_classifier"
CHAMPION = "champion"
TRAINING_KEY = "training_key"
WEIGHTS = "model.safetensors"
SERVING_CODE = Path(__file__).with_name("serve.py")
# What the model server must have; a version brings only the code of this repository.
REQUIREMENTS = ("mlflow-skinny", "numpy", "pillow", "safetensors", "torch", "torchvision")
# MLflow takes at most 1,000 metrics and 1 MB in one request: https://mlflow.org/docs/latest/api_reference/rest-api.html
METRICS_PER_REQUEST = 400


@dataclass(frozen=True)
class TrainedModel:
    """What is registered about a model; `history` has the metrics of each epoch."""

    training_key: str
    weights: bytes
    architecture: str
    classes: Sequence[str]
    image_size: int
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float | int]]
    pictures: Mapping[str, bytes]


def champion_version() -> str | None:
    """Return the version that the alias `champion` names, or None before the first one."""
    with _clear_errors("look up the champion"):
        return _version_by_alias(MlflowClient())


def load(version: str) -> Classifier:
    """Load the classifier of a version. Raises PermanentError if it cannot be loaded."""
    with _clear_errors(f"load version {version}"), tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{version}", dst_path=folder)
        try:
            return Classifier.from_file(_weights(Path(path)))
        except PermanentError as error:
            raise PermanentError(
                f"Version {version} cannot be loaded: {error} If it is the champion, set the alias `champion` in "
                "MLflow to another version, or remove the alias."
            ) from error


def register(model: TrainedModel) -> str:
    """Register a model and return its version; a model with the same training key is registered once.

    The version is created last, when everything that it refers to is stored. A run that fails midway is marked FAILED
    in MLflow, and the next attempt continues it.
    """
    with _clear_errors("register the model"):
        client = MlflowClient()
        _create_registered_model(client)
        if existing := _version_by_training_key(client, model.training_key):
            return existing
        return _create_version(client, model)


def promote(version: str) -> None:
    """Set the alias `champion` to `version`."""
    with _clear_errors(f"make version {version} the champion"):
        MlflowClient().set_registered_model_alias(MODEL_NAME, CHAMPION, version)


def add_serving_code(version: str) -> None:
    """Add the code that serves it to a version that was registered when versions carried only weights."""
    with _clear_errors(f"add serving code to version {version}"), tempfile.TemporaryDirectory() as temporary:
        before = Model.load(f"models:/{MODEL_NAME}/{version}")
        if mlflow.pyfunc.FLAVOR_NAME in before.flavors:
            return
        old, new = Path(temporary, "old"), Path(temporary, "new")
        mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{version}", dst_path=str(old))
        entry = Model(MODEL_NAME, before.run_id, model_id=before.model_id)
        write_model_files(new, _weights(old).read_bytes(), before.metadata, entry)
        MlflowClient().log_model_artifacts(before.model_id, str(new))


def _create_version(client: MlflowClient, model: TrainedModel) -> str:
    experiment_id = _experiment_id(client)
    run_id = _run_id(client, experiment_id, model.training_key)
    logged_model = client.create_logged_model(
        experiment_id, MODEL_NAME, source_run_id=run_id, tags={TRAINING_KEY: model.training_key}
    )
    try:
        _log_run(client, run_id, model)
        with tempfile.TemporaryDirectory() as folder:
            entry = Model(MODEL_NAME, run_id, model_id=logged_model.model_id)
            write_model_files(Path(folder), model.weights, _metadata(model), entry)
            client.log_model_artifacts(logged_model.model_id, folder)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        client.finalize_logged_model(logged_model.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged_model.model_id, "READY")
    client.set_terminated(run_id)
    version = client.create_model_version(
        MODEL_NAME,
        source=logged_model.artifact_location,
        run_id=run_id,
        model_id=logged_model.model_id,
        tags={TRAINING_KEY: model.training_key},
    )
    return str(version.version)


def _metadata(model: TrainedModel) -> dict[str, Any]:
    return {
        "architecture": model.architecture,
        "classes": list(model.classes),
        "image_size": model.image_size,
        "training_key": model.training_key,
    }


def _log_run(client: MlflowClient, run_id: str, model: TrainedModel) -> None:
    finished_at_ms = int(model.history[-1]["finished_at_ms"])
    metrics = [Metric(name, value, finished_at_ms, 0) for name, value in model.metrics.items()]
    for epoch in model.history:
        metrics += [
            Metric(f"epoch_{name}", float(epoch[name]), int(epoch["finished_at_ms"]), int(epoch["number"]))
            for name in ("loss", "accuracy", "seconds")
        ]
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in model.params.items()])
    for start in range(0, len(metrics), METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics[start : start + METRICS_PER_REQUEST])
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in model.pictures.items():
            Path(folder, name).write_bytes(picture)
        client.log_artifacts(run_id, folder)


def write_model_files(folder: Path, weights: bytes, metadata: Mapping[str, Any], entry: Model | None = None) -> None:
    """Write the files of a version: the weights, and the code that serves them.

    Args:
        folder: An empty folder.
        weights: What `Classifier.to_bytes` returned.
        metadata: What MLflow shows about the version.
        entry: The model in MLflow that the files belong to.
    """
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, WEIGHTS)
        file.write_bytes(weights)
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(SERVING_CODE),
            artifacts={"weights": str(file)},
            code_paths=code_paths(__file__),
            mlflow_model=entry,
            pip_requirements=[f"{name}=={_installed(name)}" for name in REQUIREMENTS],
            metadata={UPLOAD_FIELD: "image", **metadata},
        )


def _installed(package: str) -> str:
    """Return a version without the suffix of its build, such as +cpu."""
    return importlib.metadata.version(package).partition("+")[0]


def _weights(folder: Path) -> Path:
    """Return the file of the weights of a version, which was once in the folder itself."""
    return next(folder.rglob(WEIGHTS))


def _experiment_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name(MODEL_NAME)
    return str(experiment.experiment_id) if experiment else str(client.create_experiment(MODEL_NAME))


def _run_id(client: MlflowClient, experiment_id: str, training_key: str) -> str:
    """Return the run of this training key, set to running again, or a new run."""
    runs = client.search_runs([experiment_id], f"tags.{TRAINING_KEY} = '{training_key}'", max_results=1)
    if runs:
        client.update_run(runs[0].info.run_id, "RUNNING")
        return str(runs[0].info.run_id)
    return str(client.create_run(experiment_id, run_name=training_key, tags={TRAINING_KEY: training_key}).info.run_id)


def _create_registered_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(MODEL_NAME)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_by_training_key(client: MlflowClient, training_key: str) -> str | None:
    versions: list[ModelVersion] = client.search_model_versions(
        f"name = '{MODEL_NAME}' and tags.{TRAINING_KEY} = '{training_key}'"
    )
    return str(versions[0].version) if versions else None


def _version_by_alias(client: MlflowClient) -> str | None:
    try:
        return str(client.get_model_version_by_alias(MODEL_NAME, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


@contextmanager
def _clear_errors(action: str) -> Iterator[None]:
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
