"""The steps that compute or use MLflow, one function for each task of the DAG.

Steps pass each other keys of the artifacts bucket and small dictionaries. A model is stored under a key derived from
its inputs, manifest last, and a model whose manifest exists is reused.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import sklearn

from flight_features.columns import FEATURES, TARGET
from flight_model import candidates, card, evaluation, models, pictures, training_set, versions
from flight_model.outputs import Choice, Compared, Computing, Decision, Evaluation, Fitted, Frozen, Registration
from ml_common import content_keys, deployment, metrics, registry, statistics, wandb_runs
from ml_common.errors import PermanentError
from ml_common.object_store import MANIFEST, artifacts_bucket

log = logging.getLogger(__name__)

MODELS = "flight_model/models/"
WANDB = "flight_model/wandb/"
MODEL = "model.skops"
PICTURES = ("roc.png", "calibration.png", "importance.png")
# As in dag.yaml.
SERVED_AS = "flight-delays"
# What a fitted model depends on besides its inputs.
CODE = [Path(__file__).with_name(name) for name in ("candidates.py", "models.py")]


def freeze(as_of: str | None, requests: Sequence[Mapping[str, str]], evaluation_days: int) -> Frozen:
    """Freeze the flights before a day as the training set of this run."""
    split = training_set.Split(training_set.as_of(as_of, requests), evaluation_days)
    return training_set.freeze(split)


def train(frozen: Frozen, candidate: str, seed: int) -> Compared:
    """Fit a candidate to the first days, and measure it on the days that candidates are compared on."""
    split = _split(frozen)
    fitted = _fit(frozen, candidate, seed, split.choice_begins)
    flights = training_set.read(frozen["training_set"], split.choice_begins, split.evaluation_begins)
    measured = evaluation.measure(flights[TARGET], models.probabilities(_model(fitted), flights[list(FEATURES)]))
    log.info("AUC of %s: %.4f.", candidate, measured["auc"])
    return Compared(**fitted, auc=measured["auc"])


def choose(results: Iterable[Compared]) -> Choice:
    """Choose the candidate with the highest AUC among those that did not fail.

    Raises:
        PermanentError: All candidates failed.
    """
    compared = sorted(results, key=lambda result: -result["auc"])
    if not compared:
        raise PermanentError("All candidates failed: see the logs of the task train.")
    succeeded = {result["candidate"] for result in compared}
    failed = [name for name in candidates.NAMES if name not in succeeded]
    best = compared[0]["candidate"]
    log.info("Chose %s of %d candidates; failed: %s.", best, len(compared), ", ".join(failed) or "none")
    return Choice(candidate=best, compared=compared, failed=failed)


def refit(frozen: Frozen, choice: Choice, seed: int) -> Fitted:
    """Fit the chosen candidate to all days before the evaluation."""
    return _fit(frozen, choice["candidate"], seed, _split(frozen).evaluation_begins)


def _fit(frozen: Frozen, candidate: str, seed: int, before: date) -> Fitted:
    """Fit a candidate to the flights before a day, once for the same inputs."""
    inputs = training_inputs(frozen, candidate, seed, before)
    training_key = content_keys.content_key(inputs)
    stored = published(training_key)
    if stored is not None:
        return stored
    flights = training_set.read(frozen["training_set"], before=before)
    started = time.perf_counter()
    model = models.fit(candidate, seed, flights[list(FEATURES)], flights[TARGET])
    fitted = Fitted(
        training_key=training_key,
        candidate=candidate,
        rows=len(flights),
        seconds=time.perf_counter() - started,
        finished_at_ms=int(time.time() * 1000),
    )
    publish(fitted, inputs, models.to_bytes(model))
    return fitted


def training_inputs(frozen: Frozen, candidate: str, seed: int, before: date) -> dict[str, Any]:
    """Return everything that a fitted model depends on."""
    return {
        "flights": frozen["sha256"],
        "before": str(before),
        "candidate": candidate,
        "hyperparameters": candidates.hyperparameters(candidate),
        "seed": seed,
        "code_version": content_keys.code_version(CODE),
        "scikit-learn": sklearn.__version__,
    }


def published(training_key: str) -> Fitted | None:
    """Return the fitted model of a training key, or None."""
    folder = _folder(training_key)
    manifest = artifacts_bucket().published(folder)
    if manifest is None:
        return None
    log.info("Reusing the model at %s, which was fitted to the same flights.", artifacts_bucket().uri(folder))
    fitted: Fitted = manifest["fitted"]
    return fitted


def publish(fitted: Fitted, inputs: Mapping[str, Any], model: bytes) -> None:
    """Store a fitted model under its training key."""
    artifacts_bucket().publish(
        _folder(fitted["training_key"]), {MODEL: model}, {"inputs": {**inputs}, "fitted": fitted}
    )


def evaluate(frozen: Frozen, choice: Choice, fitted: Fitted, seed: int) -> Evaluation:
    """Measure the model and the champion on the same last days, draw pictures, and record the training in MLflow."""
    bucket, split = artifacts_bucket(), _split(frozen)
    flights = training_set.read(frozen["training_set"], split.evaluation_begins)
    features, late = flights[list(FEATURES)], flights[TARGET]
    model = _model(fitted)
    predicted = {"new model": models.probabilities(model, features)}
    champion = registry.champion_version(versions.MODEL_NAME)
    if champion is not None:
        predicted[f"version {champion}"] = registry.load(versions.MODEL_NAME, champion).predict(features)
    measured = {name: evaluation.measure(late, probabilities) for name, probabilities in predicted.items()}
    bins = {name: statistics.calibration(late, probabilities) for name, probabilities in predicted.items()}
    importance = evaluation.importance(model, flights, seed)
    drawn = (pictures.roc(late, predicted), pictures.calibration(bins), pictures.importance(importance))
    files = dict(zip(PICTURES, drawn, strict=True))
    folder = f"{_folder(fitted['training_key'])}evaluation/"
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
    model = artifacts_bucket().get(_folder(fitted["training_key"]) + MODEL)
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
        bucket.put(_folder(fitted["training_key"]) + name, content, content_type)
    contents = {name: content for name, (content, _) in files.items()}
    _record(versions.training_run(frozen, choice, fitted, evaluated, contents))
    if registered:
        registry.describe(versions.MODEL_NAME, registered["version"], card.markdown(facts))
    return _folder(fitted["training_key"]) + card.PAGE


def _record(run: registry.Run) -> None:
    registry.record(versions.MODEL_NAME, run)
    wandb_runs.record(versions.MODEL_NAME, run, WANDB)


def _pictures(evaluated: Evaluation) -> dict[str, bytes]:
    return {name: artifacts_bucket().get(evaluated["folder"] + name) for name in PICTURES}


def _training_key(version: str) -> str | None:
    return registry.tags(versions.MODEL_NAME, version).get(registry.TRAINING_KEY)


def _model(fitted: Fitted) -> Any:
    return models.from_bytes(artifacts_bucket().get(_folder(fitted["training_key"]) + MODEL))


def _split(frozen: Frozen) -> training_set.Split:
    return training_set.Split(date.fromisoformat(frozen["as_of"]), frozen["evaluation_days"])


def _folder(training_key: str) -> str:
    return f"{MODELS}{training_key}/"
