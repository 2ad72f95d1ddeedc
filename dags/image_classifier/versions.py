"""The versions of the registered MLflow model `image_classifier`."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models import Model

from image_classifier.model import Classifier
from ml_common import registry, wandb_runs
from ml_common.errors import PermanentError
from ml_common.serving import UPLOAD_FIELD, code_paths

MODEL_NAME = "image_classifier"
WANDB = "image_classifier/wandb/"
WEIGHTS = "model.safetensors"
SERVING_CODE = Path(__file__).with_name("serve.py")
# What the model server must have; a version brings only the code of this repository.
REQUIREMENTS = ("mlflow-skinny", "numpy", "pillow", "safetensors", "torch", "torchvision")


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
    history: Sequence[Mapping[str, Any]]
    pictures: Mapping[str, bytes]


def load(version: str) -> Classifier:
    """Load the classifier of a version. Raises PermanentError if it cannot be loaded."""
    with registry.downloaded(MODEL_NAME, version) as folder:
        try:
            return Classifier.from_file(_weights(folder))
        except PermanentError as error:
            raise PermanentError(
                f"Version {version} cannot be loaded: {error} If it is the champion, set the alias `champion` in "
                "MLflow to another version, or remove the alias."
            ) from error


def register(model: TrainedModel) -> str:
    """Register a model and return its version; a model with the same training key is registered once."""
    metadata = {
        "architecture": model.architecture,
        "classes": list(model.classes),
        "image_size": model.image_size,
        "training_key": model.training_key,
    }
    run = registry.Run(model.training_key, model.training_key, model.params, _metrics(model), model.pictures)
    wandb_runs.record(MODEL_NAME, run, WANDB)
    return registry.register(
        MODEL_NAME,
        run,
        lambda folder, entry: write_model_files(folder, model.weights, metadata, entry),
    )


def _metrics(model: TrainedModel) -> list[Metric]:
    """Return the metrics of the model, and those of its epochs as steps."""
    finished_at_ms = int(model.history[-1]["finished_at_ms"])
    metrics = [Metric(name, value, finished_at_ms, 0) for name, value in model.metrics.items()]
    for epoch in model.history:
        metrics += [
            Metric(f"epoch_{name}", float(epoch[name]), int(epoch["finished_at_ms"]), int(epoch["number"]))
            for name in ("loss", "accuracy", "seconds")
        ]
        metrics += [
            Metric(f"images_per_second_rank_{rank}", speed, int(epoch["finished_at_ms"]), int(epoch["number"]))
            for rank, speed in enumerate(epoch["images_per_second"])
        ]
    return metrics


def add_serving_code(version: str) -> None:
    """Add the code that serves it to a version that was registered when versions carried only weights."""
    with registry.clear_errors(f"add serving code to version {version}"), tempfile.TemporaryDirectory() as temporary:
        before = Model.load(f"models:/{MODEL_NAME}/{version}")
        if mlflow.pyfunc.FLAVOR_NAME in before.flavors:
            return
        old, new = Path(temporary, "old"), Path(temporary, "new")
        mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{version}", dst_path=str(old))
        entry = Model(MODEL_NAME, before.run_id, model_id=before.model_id)
        write_model_files(new, _weights(old).read_bytes(), before.metadata, entry)
        MlflowClient().log_model_artifacts(before.model_id, str(new))


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
            pip_requirements=registry.pinned(REQUIREMENTS),
            metadata={UPLOAD_FIELD: "image", **metadata},
        )


def _weights(folder: Path) -> Path:
    """Return the file of the weights of a version, which was once in the folder itself."""
    return next(folder.rglob(WEIGHTS))
