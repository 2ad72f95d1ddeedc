"""The steps that fit models, one function for each task of the DAG. None of them imports MLflow.

Steps pass each other keys of the artifacts bucket and small dictionaries. A model is stored under a key derived from
its inputs, manifest last, and a model whose manifest exists is reused.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flight_features.columns import FEATURES, TARGET
from flight_model import candidates, evaluation, models, training_set
from flight_model.outputs import Choice, Compared, Fitted, Frozen
from ml_common import content_keys
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket

log = logging.getLogger(__name__)

MODELS = "flight_model/models/"
MODEL = "model.skops"
# What a fitted model depends on besides its inputs.
CODE = [Path(__file__).with_name(name) for name in ("candidates.py", "models.py")]


def freeze(as_of: str | None, requests: Sequence[Mapping[str, str]], evaluation_days: int) -> Frozen:
    """Freeze the flights before a day as the training set of this run."""
    split = training_set.Split(training_set.as_of(as_of, requests), evaluation_days)
    return training_set.freeze(split)


def train(frozen: Frozen, candidate: str, seed: int) -> Compared:
    """Fit a candidate to the first days, and measure it on the days that candidates are compared on."""
    split = split_of(frozen)
    fitted = _fit(frozen, candidate, seed, split.choice_begins)
    flights = training_set.read(frozen["training_set"], split.choice_begins, split.evaluation_begins)
    measured = evaluation.measure(flights[TARGET], models.probabilities(model_of(fitted), flights[list(FEATURES)]))
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
    return _fit(frozen, choice["candidate"], seed, split_of(frozen).evaluation_begins)


def _fit(frozen: Frozen, candidate: str, seed: int, before: date) -> Fitted:
    """Fit a candidate to the flights before a day, once for the same inputs."""
    inputs = training_inputs(frozen, candidate, seed, before)
    training_key = content_keys.content_key(inputs)
    stored = _published(training_key)
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
        "scikit-learn": version("scikit-learn"),
    }


def _published(training_key: str) -> Fitted | None:
    folder = folder_of(training_key)
    manifest = artifacts_bucket().published(folder)
    if manifest is None:
        return None
    log.info("Reusing the model at %s, which was fitted to the same flights.", artifacts_bucket().uri(folder))
    fitted: Fitted = manifest["fitted"]
    return fitted


def publish(fitted: Fitted, inputs: Mapping[str, Any], model: bytes) -> None:
    """Store a fitted model under its training key."""
    details = {"inputs": {**inputs}, "fitted": fitted}
    artifacts_bucket().publish(folder_of(fitted["training_key"]), {MODEL: model}, details)


def model_of(fitted: Fitted) -> Any:
    """Return a fitted model."""
    return models.from_bytes(artifacts_bucket().get(folder_of(fitted["training_key"]) + MODEL))


def split_of(frozen: Frozen) -> training_set.Split:
    """Return which days of a training set are for what."""
    return training_set.Split(date.fromisoformat(frozen["as_of"]), frozen["evaluation_days"])


def folder_of(training_key: str) -> str:
    """Return where the files of a training are."""
    return f"{MODELS}{training_key}/"
