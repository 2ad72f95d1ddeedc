"""The pipeline: load flights, train candidates, and choose the one that ranks the later flights best."""

from typing import Annotated

import mlflow
import pandas as pd
from zenml import pipeline, step
from zenml.config import ResourceSettings

from flight_features.columns import FEATURES, TARGET
from flight_model import evaluation, models
from zenml_flight_model import flights

# Fits one model on one core; see THREADS in flight_model/models.py.
TRAINING = {"resources": ResourceSettings(cpu_count=models.THREADS, memory="2GiB")}
CANDIDATES = ("logistic", "boosting")


# The files may have changed since the last run.
@step(enable_cache=False)
def load(
    first: str, last: str, evaluation_days: int
) -> tuple[Annotated[pd.DataFrame, "training_flights"], Annotated[pd.DataFrame, "evaluation_flights"]]:
    """Read the flights, and set the last days aside."""
    earlier, later = flights.split(flights.read(first, last), evaluation_days)
    return earlier, later  # ZenML counts the outputs here


@step(settings=TRAINING)
def train(training_flights: pd.DataFrame, candidate: str, seed: int) -> Annotated[bytes, "model"]:
    """Fit a candidate of flight_model to the flights."""
    return models.to_bytes(models.fit(candidate, seed, training_flights[list(FEATURES)], training_flights[TARGET]))


@step(experiment_tracker="airflow")
def evaluate(
    evaluation_flights: pd.DataFrame, logistic: bytes, boosting: bytes
) -> tuple[Annotated[dict[str, dict[str, float]], "metrics"], Annotated[bytes, "best_model"]]:
    """Measure the candidates on the same flights, and return the one with the highest AUC."""
    fitted = dict(zip(CANDIDATES, (logistic, boosting), strict=True))
    features, late = evaluation_flights[list(FEATURES)], evaluation_flights[TARGET]
    measured = {
        name: dict(evaluation.measure(late, models.probabilities(models.from_bytes(file), features)))
        for name, file in fitted.items()
    }
    best = max(measured, key=lambda name: measured[name]["auc"])
    mlflow.log_param("candidate", best)
    mlflow.log_metrics(measured[best])
    return measured, fitted[best]


@pipeline
def zenml_flight_model(
    first: str = "2013-01-01", last: str = "2013-01-31", evaluation_days: int = 7, seed: int = 0
) -> None:
    """Train on the days from `first`, and evaluate on the last `evaluation_days` days."""
    training_flights, evaluation_flights = load(first, last, evaluation_days)
    fitted = [train(training_flights, name, seed, id=f"train_{name}") for name in CANDIDATES]
    evaluate(evaluation_flights, *fitted)
