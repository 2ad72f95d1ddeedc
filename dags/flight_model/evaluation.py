"""How good a model is on flights that it was not fitted to."""

from typing import Any

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from flight_features.columns import FEATURES, TARGET
from flight_model.models import THREADS
from flight_model.outputs import Metrics
from ml_common import statistics

SAMPLE = 3000
REPEATS = 3


def measure(late: "pd.Series[bool]", probabilities: ArrayLike) -> Metrics:
    """Return the metrics of predicted probabilities."""
    skill = statistics.brier_skill(late, probabilities, float(late.mean()))
    return Metrics(
        auc=float(roc_auc_score(late, probabilities)),
        brier_score=statistics.brier_score(late, probabilities),
        brier_skill=skill if skill is not None else 0.0,
    )


def importance(model: Any, flights: pd.DataFrame, seed: int) -> dict[str, float]:
    """Return how much AUC is lost when a feature is permuted, most important first, on a sample of the flights."""
    sample = flights.sample(min(SAMPLE, len(flights)), random_state=seed)
    with threadpool_limits(THREADS):
        found = permutation_importance(
            model, sample[list(FEATURES)], sample[TARGET], scoring="roc_auc", n_repeats=REPEATS, random_state=seed
        )
    losses = dict(zip(FEATURES, found.importances_mean.tolist(), strict=True))
    return dict(sorted(losses.items(), key=lambda entry: -entry[1]))
