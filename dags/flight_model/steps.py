"""The steps after a model is fitted: they draw pictures and use MLflow; one function for each task of the DAG."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from flight_features.columns import FEATURES, TARGET
from flight_model import card, evaluation, fitting, models, pictures, training_set, versions
from flight_model.outputs import Choice, Computing, Decision, Evaluation, Fitted, Frozen, Registration
from ml_common import deployment, metrics, registry, statistics, wandb_runs
from ml_common.object_store import MANIFEST, artifacts_bucket

log = logging.getLogger(__name__)

WANDB = "flight_model/wandb/"
PICTURES = ("roc.png", "calibration.png", "importance.png")
# As in dag.yaml.
SERVED_AS = "flight-delays"


def evaluate(frozen: Frozen, choice: Choice, fitted: Fitted, seed: int) -> Evaluation:
    """Measure the model and the champion on the same last days, draw pictures, and record the training in MLflow."""
    bucket, split = artifacts_bucket(), fitting.split_of(frozen)
    flights = training_set.read(frozen["training_set"], split.evaluation_begins)
    features, late = flights[list(FEATURES)], flights[TARGET]
    model = fitting.model_of(fitted)
    predicted = {"new model": models.probabilities(model, features)}
    champion = registry.champion_version(versions.MODEL_NAME)
    if champion is not None:
        predicted[f"version {champion}"] = registry.load(versions.MODEL_NAME, champion).predict(features)
    measured = {name: evaluation.measure(late, probabilities) for name, probabilities in predicted.items()}
    bins = {name: statistics.calibration(late, probabilities) for name, probabilities in predicted.items()}
    importance = evaluation.importance(model, flights, seed)
    drawn = (pictures.roc(late, predicted), pictures.calibration(bins), pictures.importance(importance))
    files = dict(zip(PICTURES, drawn, strict=True))
    folder = f"{fitting.folder_of(fitted['training_key'])}evaluation/"
    new, *others = measured.values()
    details = {
        "metrics": measured,
        "calibration": {name: [asdict(one) for one in of_model] for name, of_model in bins.items()},
        "importance": importance,
        "late": int(late.sum()),
    }
    bucket.publish(folder, files, details)
    evaluated = Evaluation(
        folder=folder,
        first=str(split.evaluation_begins),
        last=str(split.as_of - timedelta(days=1)),
        rows=len(flights),
        metrics=new,
        champion_version=champion,
        champion_metrics=others[0] if others else None,
        is_champion=champion is not None and _training_key(champion) == fitted["training_key"],
    )
    _record(versions.training_run(frozen, choice, fitted, evaluated, files))
    metrics.send({"auc": new["auc"]}, dag_id="flight_model", model=versions.MODEL_NAME)
    return evaluated


def register(
    frozen: Frozen, choice: Choice, fitted: Fitted, evaluated: Evaluation, approval: Mapping[str, Any] | None
) -> Registration:
    """Register the model in MLflow with who approved it."""
    model = artifacts_bucket().get(fitting.folder_of(fitted["training_key"]) + fitting.MODEL)
    approved_by = card.answered_by(approval)
    tags = {"training_set": frozen["training_set"], "as_of": frozen["as_of"]}
    version = registry.register(
        versions.MODEL_NAME,
        versions.training_run(frozen, choice, fitted, evaluated, _pictures(evaluated)),
        lambda folder, entry: versions.write_files(folder, model, entry),
        {**tags, "approved_by": approved_by} if approved_by else tags,
    )
    return Registration(version=version, approved_by=approved_by)


def promote(registered: Registration) -> str:
    """Make the registered version the champion."""
    registry.promote(versions.MODEL_NAME, registered["version"])
    return registered["version"]


def deploy(version: str) -> str:
    """Serve the version, and return the address."""
    return deployment.deploy(SERVED_AS, version, versions.MODEL_NAME)


def write_card(
    frozen: Frozen,
    choice: Choice,
    fitted: Fitted,
    evaluated: Evaluation,
    decision: Decision,
    approval: Mapping[str, Any] | None,
    registered: Registration | None,
    computing: Computing | None = None,
) -> str:
    """Write the model card to the artifacts bucket and to MLflow; return the key of the page."""
    bucket = artifacts_bucket()
    facts = card.facts(
        frozen,
        choice,
        fitted,
        evaluated,
        bucket.get_json(evaluated["folder"] + MANIFEST),
        decision,
        approval,
        registered,
        computing,
    )
    log.info(facts["decision"])
    files = card.files(facts, _pictures(evaluated))
    for name, (content, content_type) in files.items():
        bucket.put(fitting.folder_of(fitted["training_key"]) + name, content, content_type)
    contents = {name: content for name, (content, _) in files.items()}
    _record(versions.training_run(frozen, choice, fitted, evaluated, contents))
    if registered:
        registry.describe(versions.MODEL_NAME, registered["version"], card.markdown(facts))
    return fitting.folder_of(fitted["training_key"]) + card.PAGE


def _record(run: registry.Run) -> None:
    registry.record(versions.MODEL_NAME, run)
    wandb_runs.record(versions.MODEL_NAME, run, WANDB)


def _pictures(evaluated: Evaluation) -> dict[str, bytes]:
    return {name: artifacts_bucket().get(evaluated["folder"] + name) for name in PICTURES}


def _training_key(version: str) -> str | None:
    return registry.tags(versions.MODEL_NAME, version).get(registry.TRAINING_KEY)
