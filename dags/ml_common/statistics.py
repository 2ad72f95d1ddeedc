"""Statistics of features and of predicted probabilities, as pure functions of arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

BINS = 10
# The share that an empty bin counts as in the PSI, which would be infinite otherwise.
SMALLEST_SHARE = 1e-4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions of similar probability: their mean, and the share of them that came true."""

    predicted: float
    observed: float
    count: int


def population_stability_index(reference: ArrayLike, actual: ArrayLike, bins: int = BINS) -> float:
    """Return how much a distribution differs from a reference: 0 if not at all, above 0.25 a lot.

    The bins are the reference's quantiles. A value that is several quantiles at once, such as the zeros of a
    zero-inflated column, gets its own bin, and so do missing values.

    Source: Siddiqi, Credit Risk Scorecards (2006), chapter 8, with the thresholds 0.1 and 0.25.

    Args:
        reference: Numbers, float [N]; NaN is missing.
        actual: Numbers, float [M]; NaN is missing.
        bins: How many quantiles.
    """
    reference, actual = _floats(reference), _floats(actual)
    edges = _edges(reference, bins)
    expected, found = (_shares(values, edges) for values in (reference, actual))
    return float(np.sum((found - expected) * np.log(found / expected)))


def kolmogorov_smirnov(reference: ArrayLike, actual: ArrayLike) -> float | None:
    """Return the largest distance between two distribution functions, from 0 to 1, without missing values.

    Source: Smirnov, Annals of Mathematical Statistics 19 (1948). With ties, such as in discrete columns, the distance
    is still exact; a p-value would not be, and with many rows it would call any distance significant.

    Returns:
        None if one of the samples has no values.
    """
    reference, actual = (values[~np.isnan(values)] for values in (_floats(reference), _floats(actual)))
    if not reference.size or not actual.size:
        return None
    return float(ks_2samp(reference, actual, method="asymp").statistic)


def brier_score(outcomes: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared error of probabilities, from 0 (best) to 1.

    Source: Brier, Monthly Weather Review 78 (1950).

    Args:
        outcomes: Whether each event happened, bool [N].
        probabilities: The predicted probabilities, float [N].
    """
    return float(np.mean((_floats(probabilities) - _floats(outcomes)) ** 2))


def brier_skill(outcomes: ArrayLike, probabilities: ArrayLike, base_rate: float) -> float | None:
    """Return the share of a constant prediction's Brier score that the probabilities avoid: 1 is perfect, 0 no better.

    Source: Murphy, Journal of Applied Meteorology 12 (1973).

    Args:
        outcomes: Whether each event happened, bool [N].
        probabilities: The predicted probabilities, float [N].
        base_rate: The constant prediction.

    Returns:
        None if the constant prediction is perfect.
    """
    constant = brier_score(outcomes, np.full(_floats(outcomes).size, base_rate))
    return 1 - brier_score(outcomes, probabilities) / constant if constant else None


def calibration(outcomes: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> list[CalibrationBin]:
    """Return the points of a reliability diagram, in the order of the probabilities.

    The bins are quantiles, so each has about as many predictions; equal probabilities are in the same bin.

    Source: Bröcker and Smith, Weather and Forecasting 22 (2007).
    """
    outcomes, probabilities = _floats(outcomes), _floats(probabilities)
    numbers = np.searchsorted(_edges(probabilities, bins), probabilities)
    return [
        CalibrationBin(float(probabilities[chosen].mean()), float(outcomes[chosen].mean()), int(chosen.sum()))
        for chosen in (numbers == number for number in np.unique(numbers))
    ]


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _edges(reference: Floats, bins: int) -> Floats:
    """Return the inclusive upper edges of all bins but the last."""
    present = reference[~np.isnan(reference)]
    if not present.size:
        return present
    quantiles = np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf")
    edges, counts = np.unique(quantiles, return_counts=True)
    just_below_repeated = np.nextafter(edges[counts > 1], -np.inf)
    return np.unique(np.concatenate([edges, just_below_repeated]))


def _shares(values: Floats, edges: Floats) -> Floats:
    """Return the share of values in each bin, and last that of missing values."""
    missing = np.isnan(values)
    counts = np.bincount(np.searchsorted(edges, values[~missing]), minlength=len(edges) + 1)
    shares: Floats = np.append(counts, missing.sum()) / len(values)
    return np.maximum(shares, SMALLEST_SHARE)
