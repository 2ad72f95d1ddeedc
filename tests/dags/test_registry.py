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
from moto.server import ThreadedMotoServer

import served_model
from image_classifier import networks, registry
from image_classifier.metric_names import metric_name
from image_classifier.model import Classifier
from infra.documents import REPOSITORY
from ml_common.errors import PermanentError, ServiceUnavailableError

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
def model(small_network: None) -> registry.TrainedModel:
    torch.manual_seed(0)
    return registry.TrainedModel(
        training_key="0123456789abcdef",
        weights=Classifier(networks.create("resnet18", 2).eval(), "resnet18", ("a", "b"), 32).to_bytes(),
        architecture="resnet18",
        classes=("a", "b"),
        image_size=32,
        params={"epochs": 2, "seed": 0},
        metrics={"accuracy": 0.98},
        history=[
            {"number": n, "loss": 1 / n, "accuracy": 0.5, "seconds": 1.0, "finished_at_ms": 1_700_000_000_000 + n}
            for n in (1, 2)
        ],
        pictures={"confusion_matrix.png": b"\x89PNG"},
    )


def versions() -> list[str]:
    return [one.version for one in MlflowClient().search_model_versions(f"name = '{registry.MODEL_NAME}'")]


def runs() -> list[object]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(registry.MODEL_NAME)
    return list(client.search_runs([experiment.experiment_id]))


def test_there_is_no_champion_at_first() -> None:
    assert registry.champion_version() is None


def test_a_registered_model_is_loaded_as_the_same_classifier(model: registry.TrainedModel) -> None:
    version = registry.register(model)
    loaded = registry.load(version)
    assert loaded.classes == ("a", "b")
    assert loaded.image_size == 32
    assert loaded.to_bytes() == model.weights


def test_parameters_metrics_epochs_and_pictures_are_in_the_run(model: registry.TrainedModel) -> None:
    registry.register(model)
    [run] = runs()
    client, run_id = MlflowClient(), run.info.run_id  # type: ignore[attr-defined]
    assert run.info.status == "FINISHED"  # type: ignore[attr-defined]
    assert run.data.params == {"epochs": "2", "seed": "0"}  # type: ignore[attr-defined]
    assert run.data.metrics["accuracy"] == 0.98  # type: ignore[attr-defined]
    assert [(one.step, one.value) for one in client.get_metric_history(run_id, "epoch_loss")] == [(1, 1.0), (2, 0.5)]
    assert [file.path for file in client.list_artifacts(run_id)] == ["confusion_matrix.png"]


def test_a_model_of_a_thousand_classes_of_any_name_is_registered(model: registry.TrainedModel) -> None:
    classes = [f"class ({number}) 🐈 \x85" + "x" * 240 for number in range(1000)]
    metrics = {metric_name(f"f1_{name}"): 0.5 for name in classes}
    version = registry.register(replace(model, classes=classes, metrics=metrics))
    [run] = runs()
    assert metrics.items() <= run.data.metrics.items()  # type: ignore[attr-defined]
    path = mlflow.artifacts.download_artifacts(f"models:/{registry.MODEL_NAME}/{version}/MLmodel")
    assert yaml.safe_load(Path(path).read_bytes())["metadata"]["classes"] == classes


def test_a_registered_version_is_served_without_the_code_of_a_checkout(
    model: registry.TrainedModel, tmp_path: Path
) -> None:
    weights = Classifier(FULL_NETWORK("resnet18", 2).eval(), "resnet18", ("a", "b"), 32).to_bytes()
    version = registry.register(replace(model, weights=weights))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "images" / "serving")}
    command = [sys.executable, "-c", WHERE_FROM, registry.MODEL_NAME, version, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.splitlines()[-1]) == tmp_path / "code" / "image_classifier" / "images.py"


def test_a_version_from_before_versions_carried_code_is_served_after_it_was_added(
    model: registry.TrainedModel, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "write_model_files", write_weights_alone)
        version = registry.register(model)
    expected = rf"^Version {version} of {registry.MODEL_NAME} carries no code to serve it: run the task that deploys it"
    with pytest.raises(served_model.StartError, match=expected):
        served_model.load(registry.MODEL_NAME, version, tmp_path / "before")
    for _ in range(2):
        registry.add_serving_code(version)
    assert served_model.load(registry.MODEL_NAME, version, tmp_path / "after").upload_field == "image"
    assert registry.load(version).to_bytes() == model.weights


def write_weights_alone(folder: Path, weights: bytes, metadata: Mapping[str, Any], entry: Model) -> None:
    """Write the files of a version as releases did whose serving image had the code."""
    (folder / registry.WEIGHTS).write_bytes(weights)
    description = {
        "artifact_path": registry.MODEL_NAME,
        "flavors": {"safetensors": {"data": registry.WEIGHTS, "architecture": "resnet18"}},
        "metadata": {"classes": metadata["classes"], "training_key": metadata["training_key"]},
        "model_id": entry.model_id,
        "run_id": entry.run_id,
        "utc_time_created": "2026-01-01 00:00:00.000000",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(description))


def test_a_model_without_a_champion_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(served_model.StartError, match=r"has no champion to serve yet: run the DAG that registers it"):
        served_model.load(registry.MODEL_NAME, "champion", tmp_path)


def test_the_same_training_key_is_registered_once(model: registry.TrainedModel) -> None:
    assert registry.register(model) == registry.register(model) == "1"
    assert versions() == ["1"]
    assert len(runs()) == 1


def test_another_training_key_becomes_another_version(model: registry.TrainedModel) -> None:
    registry.register(model)
    assert registry.register(replace(model, training_key="f" * 16)) == "2"


def test_the_champion_moves_only_by_promotion(model: registry.TrainedModel) -> None:
    registry.promote(registry.register(model))
    assert registry.champion_version() == "1"
    registry.register(replace(model, training_key="f" * 16))
    assert registry.champion_version() == "1"
    registry.promote("2")
    assert registry.champion_version() == "2"


def test_an_outage_of_the_object_store_leaves_a_failed_run_without_a_version_and_the_next_try_continues_it(
    model: registry.TrainedModel, s3: ThreadedMotoServer
) -> None:
    s3.stop()
    with pytest.raises(ServiceUnavailableError, match="Could not register the model"):
        registry.register(model)
    s3.start()
    assert versions() == []
    assert [run.info.status for run in runs()] == ["FAILED"]  # type: ignore[attr-defined]
    assert registry.register(model) == "1"
    assert [run.info.status for run in runs()] == ["FINISHED"]  # type: ignore[attr-defined]
    history = MlflowClient().get_metric_history(runs()[0].info.run_id, "epoch_loss")  # type: ignore[attr-defined]
    assert len(history) == 2


def test_a_server_that_is_down_gives_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer; check that"):
        registry.champion_version()


def test_an_unset_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(PermanentError, match="MLFLOW_TRACKING_URI is not set"):
        registry.champion_version()


def test_a_version_that_does_not_exist_is_named(model: registry.TrainedModel) -> None:
    registry.register(model)
    with pytest.raises(PermanentError, match="Could not load version 99"):
        registry.load("99")


def test_a_version_whose_file_was_overwritten_with_something_else_is_refused(model: registry.TrainedModel) -> None:
    version = registry.register(model)
    client = boto3.client("s3")
    for entry in client.list_objects_v2(Bucket="mlflow")["Contents"]:
        if entry["Key"].endswith(registry.WEIGHTS):
            client.put_object(Bucket="mlflow", Key=entry["Key"], Body=b"something else")
    with pytest.raises(PermanentError, match="is not a model of image_classifier"):
        registry.load(version)
