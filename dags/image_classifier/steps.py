"""The steps that compute with PyTorch or use MLflow, one function for each task of the DAG.

`validation` and `gate` have the steps that need neither, because importing both takes three seconds.

Steps pass each other keys of the artifacts bucket and small dictionaries. A step writes its output under a key derived
from its inputs, manifest last, and reuses an output whose manifest exists.
"""

import logging
import os
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from image_classifier import keys, shards, versions
from image_classifier.dataset import LabelledImage, split
from image_classifier.endpoint_check import check_endpoint
from image_classifier.metric_names import metric_name
from image_classifier.model import FIRST_ARCHITECTURE, Classifier
from image_classifier.outputs import Dataset, Deployment, Evaluation, Registration, Training
from image_classifier.parameters import NO_WEIGHTS, Parameters
from ml_common import deployment, registry
from ml_common.content_keys import content_key
from ml_common.device import best_device
from ml_common.errors import PermanentError
from ml_common.object_store import MANIFEST, Bucket, artifacts_bucket, data_bucket
from ml_common.team import ALONE, Team

log = logging.getLogger(__name__)

TRAINING = "train"
HELD_OUT = "held_out"
WEIGHTS = versions.WEIGHTS
# The state of a training in progress.
STATE = "training.pt"
CONFUSION_MATRIX = "confusion_matrix.png"
PREDICTIONS = "predictions.png"
SMOKE_TEST_IMAGES = 40
# As in dag.yaml.
SERVED_AS = "image-classifier"


def preprocess(fingerprint: str, image_size: int) -> str:
    """Store the dataset's images as shards of tensors, split into training and held-out images.

    The manifest has the number of images in each class and in each shard, and the held-out images.

    Returns:
        The folder.
    """
    bucket = artifacts_bucket()
    folder = keys.tensors_folder(fingerprint, image_size)
    if bucket.published(folder) is not None:
        log.info("Reusing the tensors at %s.", bucket.uri(folder))
        return folder
    manifest = bucket.get_json(keys.dataset_folder(fingerprint) + MANIFEST)
    training_images, held_out_images = split([LabelledImage(**image) for image in manifest["images"]])
    classes = sorted(manifest["classes"])

    def write(name: str, images: list[LabelledImage]) -> list[int]:
        return shards.write(data_bucket(), images, classes, image_size, bucket, folder, name)

    bucket.publish(
        folder,
        {},
        {
            "classes": manifest["classes"],
            "shards": {TRAINING: write(TRAINING, training_images), HELD_OUT: write(HELD_OUT, held_out_images)},
            "held_out": [asdict(image) for image in held_out_images],
        },
    )
    return folder


def _shards(bucket: Bucket, tensors: str, name: str, team: Team = ALONE) -> tuple[shards.Shards, tuple[str, ...]]:
    """Return a process' part of the shards of this name, and the names of their labels."""
    manifest = bucket.get_json(tensors + MANIFEST)
    return shards.stored(bucket, tensors, name, manifest["shards"][name], team), tuple(sorted(manifest["classes"]))


def base_checkpoint(parameters: Parameters) -> str:
    """Return the key of the checkpoint to start from: the user's, torchvision's, or the one trained here once."""
    if parameters.base_checkpoint:
        return parameters.base_checkpoint
    from image_classifier import checkpoints  # with torchvision, whose 90 MiB other tasks do not need

    if parameters.weights != NO_WEIGHTS:
        return checkpoints.pretrained(artifacts_bucket(), parameters.architecture, parameters.weights)
    return checkpoints.trained_here(artifacts_bucket(), parameters.architecture)


def workers(checkpoint: str, parameters: Parameters) -> list[dict[str, Any]]:
    """Return what each worker of `train` gets: the checkpoint to start from, and its number.

    Raises:
        PermanentError: Airflow does not run so many tasks at once, so the workers would wait for each other.
    """
    limit = int(os.environ.get("AIRFLOW__CORE__PARALLELISM", parameters.workers))
    if parameters.workers > limit:
        raise PermanentError(
            f"The Param `workers` is {parameters.workers}, but this Airflow runs only {limit} tasks at once: set it to "
            "at most this number, or `airflow:tasks` > `max_pods` in the settings of a stack to a larger one."
        )
    return [{"checkpoint": checkpoint, "worker": number} for number in range(parameters.workers)]


def train(fingerprint: str, tensors: str, checkpoint: str, parameters: Parameters, worker: int = 0) -> Training:
    """Fine-tune the checkpoint on the training images in the folder `tensors`, once for the same inputs.

    Every worker returns the same.
    """
    from image_classifier import checkpoints  # as in base_checkpoint
    from ml_common.workers import Meeting, Worker, processes, run

    bucket = artifacts_bucket()
    inputs = {
        "dataset": fingerprint,
        "architecture": parameters.architecture,
        "weights": parameters.weights,
        "base_checkpoint": sha256(checkpoints.read(bucket, checkpoint)).hexdigest(),
        "image_size": parameters.image_size,
        "epochs": parameters.epochs,
        "learning_rate": parameters.learning_rate,
        "batch_size": parameters.batch_size,
        "seed": parameters.seed,
        "workers": parameters.workers,
        "precision": parameters.precision,
        "code_version": keys.code_version(),
        "torch": torch.__version__,
    }
    training_key = content_key(inputs)
    folder = keys.model_folder(training_key)
    manifest = bucket.published(folder)
    if manifest is not None:
        log.info("Reusing the model at %s, which was trained on the same inputs.", bucket.uri(folder))
        return _training(manifest, reused=True)
    # Each process reads the checkpoint again: kept from here on, it would take memory during the training.
    fine_tune = partial(_fine_tune, {"training_key": training_key, "inputs": inputs}, tensors, checkpoint, parameters)
    run(fine_tune, Worker(worker, parameters.workers, processes()), Meeting(bucket, folder))
    return _training(bucket.get_json(folder + MANIFEST), reused=False)


def _fine_tune(identity: dict[str, Any], tensors: str, checkpoint: str, parameters: Parameters, team: Team) -> None:
    """Fine-tune in one process of a team; the first one publishes the model, with `identity` in its manifest."""
    from image_classifier import checkpoints, networks, saved_training, training

    bucket = artifacts_bucket()
    folder = keys.model_folder(identity["training_key"])
    device = best_device(team.local_rank, team.local_size, parameters.precision)
    torch.manual_seed(parameters.seed)
    images, classes = _shards(bucket, tensors, TRAINING, team)
    network = checkpoints.network_from(
        checkpoints.read(bucket, checkpoint), checkpoint, parameters.architecture, len(classes)
    )
    if team.rank:
        torch.manual_seed(parameters.seed + team.rank)
    saved = saved_training.SavedTraining(bucket, folder + STATE)
    history = training.fine_tune(
        network,
        images,
        epochs=parameters.epochs,
        learning_rate=parameters.learning_rate,
        batch_size=parameters.batch_size,
        bytes_per_pixel=networks.TRAINING_BYTES_PER_PIXEL[parameters.architecture],
        device=device,
        saved=saved,
        team=team,
    )
    if team.rank:
        return
    manifest = {
        **identity,
        "tensors": tensors,
        "classes": classes,
        "history": [epoch.as_dict() for epoch in history],
        "seconds": sum(epoch.seconds for epoch in history),
        "device": device.description,
    }
    classifier = Classifier(network, parameters.architecture, classes, parameters.image_size)
    bucket.publish(folder, {WEIGHTS: classifier.to_bytes()}, manifest)
    saved.discard()


def _training(manifest: dict[str, Any], *, reused: bool) -> Training:
    return Training(
        training_key=manifest["training_key"],
        fingerprint=manifest["inputs"]["dataset"],
        image_size=manifest["inputs"]["image_size"],
        seconds=manifest["seconds"],
        device=manifest["device"],
        reused=reused,
    )


def evaluate(trained: Training) -> Evaluation:
    """Measure the model and the current champion on the same held-out images."""
    from image_classifier import evaluation  # with scikit-learn, whose 80 MiB other tasks do not need

    bucket = artifacts_bucket()
    folder = _evaluation_folder(trained["training_key"])
    metrics = bucket.published(folder) or _measure(bucket, trained, folder)
    champion_version = registry.champion_version(versions.MODEL_NAME)
    champion_accuracy = None
    if champion_version is not None:
        champion = versions.load(champion_version).to(best_device())
        tensors = preprocess(trained["fingerprint"], champion.image_size)
        champion_accuracy = evaluation.accuracy(champion, *_shards(bucket, tensors, HELD_OUT))
    log.info("Accuracy on held-out images: %.4f; champion: %s.", metrics["accuracy"], champion_accuracy)
    return Evaluation(
        accuracy=metrics["accuracy"],
        confusion_matrix=folder + CONFUSION_MATRIX,
        predictions=folder + PREDICTIONS,
        champion_version=champion_version,
        champion_accuracy=champion_accuracy,
    )


def _measure(bucket: Bucket, trained: Training, folder: str) -> dict[str, Any]:
    from image_classifier import evaluation, pictures

    classifier = _classifier(bucket, trained["training_key"]).to(best_device())
    tensors = preprocess(trained["fingerprint"], trained["image_size"])
    predictions = evaluation.predict(classifier, *_shards(bucket, tensors, HELD_OUT))
    metrics = evaluation.metrics(predictions.truths, predictions.predicted, classifier.classes)
    files = {
        CONFUSION_MATRIX: pictures.confusion_picture(predictions.truths, predictions.predicted, classifier.classes),
        PREDICTIONS: pictures.predictions_picture(predictions.examples),
    }
    bucket.publish(folder, files, metrics)
    return metrics


def _classifier(bucket: Bucket, training_key: str) -> Classifier:
    with TemporaryDirectory() as folder:
        path = Path(folder, WEIGHTS)
        bucket.download(keys.model_folder(training_key) + WEIGHTS, path)
        return Classifier.from_file(path)


def _evaluation_folder(training_key: str) -> str:
    return f"{keys.model_folder(training_key)}evaluation/"


def register(trained: Training, evaluated: Evaluation, verdict: dict[str, Any]) -> Registration:
    """Register the model in MLflow and, if the gate promoted it, make it the champion."""
    bucket = artifacts_bucket()
    folder = keys.model_folder(trained["training_key"])
    manifest = bucket.get_json(folder + MANIFEST)
    per_class = _per_class(bucket, trained)
    version = versions.register(
        versions.TrainedModel(
            training_key=trained["training_key"],
            weights=bucket.get(folder + WEIGHTS),
            architecture=manifest["inputs"].get("architecture", FIRST_ARCHITECTURE),
            classes=manifest["classes"],
            image_size=trained["image_size"],
            params=manifest["inputs"],
            metrics={
                "accuracy": evaluated["accuracy"],
                "training_seconds": trained["seconds"],
                **{metric_name(f"f1_{name}"): scores["f1"] for name, scores in per_class.items()},
            },
            history=manifest["history"],
            pictures={
                CONFUSION_MATRIX: bucket.get(evaluated["confusion_matrix"]),
                PREDICTIONS: bucket.get(evaluated["predictions"]),
            },
        )
    )
    if verdict["promote"]:
        registry.promote(versions.MODEL_NAME, version)
    return Registration(version=version, promoted=verdict["promote"], reason=verdict["reason"])


def _per_class(bucket: Bucket, trained: Training) -> dict[str, dict[str, float]]:
    metrics = bucket.get_json(_evaluation_folder(trained["training_key"]) + MANIFEST)
    return dict(metrics["per_class"])


def deploy() -> Deployment:
    """Serve the current champion."""
    version = _require_champion()
    versions.add_serving_code(version)
    endpoint = deployment.deploy(SERVED_AS, version, versions.MODEL_NAME)
    return Deployment(version=version, endpoint=endpoint)


def _require_champion() -> str:
    version = registry.champion_version(versions.MODEL_NAME)
    if version is None:
        raise PermanentError("There is no champion to deploy: set the alias `champion` in MLflow to a version.")
    return version


def smoke_test(
    run_id: str,
    prefix: str,
    dataset: Dataset,
    tensors: str,
    trained: Training,
    evaluated: Evaluation,
    registered: Registration,
    deployed: Deployment,
) -> str:
    """Send held-out images to the endpoint, then write the run's report and return its key."""
    bucket, images = artifacts_bucket(), data_bucket()
    manifest = bucket.get_json(tensors + MANIFEST)
    sample = sorted(manifest["held_out"], key=lambda image: str(image["sha256"]))[:SMOKE_TEST_IMAGES]
    agreement = check_endpoint(
        deployed["endpoint"],
        deployed["version"],
        versions.load(deployed["version"]),
        (images.get(image["key"]) for image in sample),
    )
    report = {
        "run_id": run_id,
        "prefix": prefix,
        "classes": manifest["classes"],
        "quarantined": dataset["quarantined"],
        "training_seconds": trained["seconds"],
        "training_reused": trained["reused"],
        "device": trained["device"],
        "accuracy": evaluated["accuracy"],
        "per_class": _per_class(bucket, trained),
        "confusion_matrix": evaluated["confusion_matrix"],
        "predictions": evaluated["predictions"],
        "model_uri": bucket.uri(keys.model_folder(trained["training_key"]) + WEIGHTS),
        "model_name": versions.MODEL_NAME,
        "version": registered["version"],
        "promoted": registered["promoted"],
        "reason": registered["reason"],
        "champion_version": deployed["version"],
        "endpoint": deployed["endpoint"],
        "smoke_test": {"images": len(sample), "agreement": agreement},
    }
    key = keys.report_key(run_id)
    bucket.put_json(key, report)
    return key
