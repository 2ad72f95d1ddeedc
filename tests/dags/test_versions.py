import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import mlflow
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.models import Model

import served_model
from image_classifier import networks, versions
from image_classifier.metric_names import metric_name
from image_classifier.model import Classifier
from infra.documents import REPOSITORY
from ml_common.errors import PermanentError

FULL_NETWORK = networks.create

# Serves a version as the pod does, and prints where its code is.
WHERE_FROM = """
import sys
from pathlib import Path
import served_model
served_model.load(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
print(sys.modules["image_classifier.images"].__file__)
"""

pytestmark = pytest.mark.usefixtures("small_network", "mlflow_registry")


@pytest.fixture
def model(small_network: None) -> versions.TrainedModel:
    torch.manual_seed(0)
    return versions.TrainedModel(
        training_key="0123456789abcdef",
        weights=Classifier(networks.create("resnet18", 2).eval(), "resnet18", ("a", "b"), 32).to_bytes(),
        architecture="resnet18",
        classes=("a", "b"),
        image_size=32,
        params={"epochs": 2, "seed": 0},
        metrics={"accuracy": 0.98},
        history=[
            {
                "number": n,
                "loss": 1 / n,
                "accuracy": 0.5,
                "seconds": 1.0,
                "finished_at_ms": 1_700_000_000_000 + n,
                "images_per_second": [10.0 * n, 20.0 * n],
            }
            for n in (1, 2)
        ],
        pictures={"confusion_matrix.png": b"\x89PNG"},
    )


def runs() -> list[object]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(versions.MODEL_NAME)
    return list(client.search_runs([experiment.experiment_id]))


def test_a_registered_model_is_loaded_as_the_same_classifier(model: versions.TrainedModel) -> None:
    version = versions.register(model)
    loaded = versions.load(version)
    assert loaded.classes == ("a", "b")
    assert loaded.image_size == 32
    assert loaded.to_bytes() == model.weights


def test_parameters_metrics_epochs_and_pictures_are_in_the_run(model: versions.TrainedModel) -> None:
    versions.register(model)
    [run] = runs()
    client, run_id = MlflowClient(), run.info.run_id  # type: ignore[attr-defined]
    assert run.info.status == "FINISHED"  # type: ignore[attr-defined]
    assert run.data.params == {"epochs": "2", "seed": "0"}  # type: ignore[attr-defined]
    assert run.data.metrics["accuracy"] == 0.98  # type: ignore[attr-defined]
    assert [(one.step, one.value) for one in client.get_metric_history(run_id, "epoch_loss")] == [(1, 1.0), (2, 0.5)]
    assert client.get_metric_history(run_id, "images_per_second_rank_1")[-1].value == 40.0
    assert [file.path for file in client.list_artifacts(run_id)] == ["confusion_matrix.png"]


def test_a_model_of_a_thousand_classes_of_any_name_is_registered(model: versions.TrainedModel) -> None:
    classes = [f"class ({number}) 🐈 \x85" + "x" * 240 for number in range(1000)]
    metrics = {metric_name(f"f1_{name}"): 0.5 for name in classes}
    version = versions.register(replace(model, classes=classes, metrics=metrics))
    [run] = runs()
    assert metrics.items() <= run.data.metrics.items()  # type: ignore[attr-defined]
    path = mlflow.artifacts.download_artifacts(f"models:/{versions.MODEL_NAME}/{version}/MLmodel")
    assert yaml.safe_load(Path(path).read_bytes())["metadata"]["classes"] == classes


def test_a_registered_version_is_served_without_the_code_of_a_checkout(
    model: versions.TrainedModel, tmp_path: Path
) -> None:
    weights = Classifier(FULL_NETWORK("resnet18", 2).eval(), "resnet18", ("a", "b"), 32).to_bytes()
    version = versions.register(replace(model, weights=weights))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "images" / "serving")}
    command = [sys.executable, "-c", WHERE_FROM, versions.MODEL_NAME, version, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.splitlines()[-1]) == tmp_path / "code" / "image_classifier" / "images.py"


def test_a_version_from_before_versions_carried_code_is_served_after_it_was_added(
    model: versions.TrainedModel, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "write_model_files", write_weights_alone)
        version = versions.register(model)
    expected = rf"^Version {version} of {versions.MODEL_NAME} carries no code to serve it: run the task that deploys it"
    with pytest.raises(served_model.StartError, match=expected):
        served_model.load(versions.MODEL_NAME, version, tmp_path / "before")
    for _ in range(2):
        versions.add_serving_code(version)
    assert served_model.load(versions.MODEL_NAME, version, tmp_path / "after").upload_field == "image"
    assert versions.load(version).to_bytes() == model.weights


def write_weights_alone(folder: Path, weights: bytes, metadata: Mapping[str, Any], entry: Model) -> None:
    """Write the files of a version as releases did whose serving image had the code."""
    (folder / versions.WEIGHTS).write_bytes(weights)
    description = {
        "artifact_path": versions.MODEL_NAME,
        "flavors": {"safetensors": {"data": versions.WEIGHTS, "architecture": "resnet18"}},
        "metadata": {"classes": metadata["classes"], "training_key": metadata["training_key"]},
        "model_id": entry.model_id,
        "run_id": entry.run_id,
        "utc_time_created": "2026-01-01 00:00:00.000000",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(description))


def test_a_model_without_a_champion_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(served_model.StartError, match=r"has no champion to serve yet: run the DAG that registers it"):
        served_model.load(versions.MODEL_NAME, "champion", tmp_path)


def test_a_version_whose_file_was_overwritten_with_something_else_is_refused(model: versions.TrainedModel) -> None:
    version = versions.register(model)
    client = boto3.client("s3")
    for entry in client.list_objects_v2(Bucket="mlflow")["Contents"]:
        if entry["Key"].endswith(versions.WEIGHTS):
            client.put_object(Bucket="mlflow", Key=entry["Key"], Body=b"something else")
    with pytest.raises(PermanentError, match="is not a model of image_classifier"):
        versions.load(version)
