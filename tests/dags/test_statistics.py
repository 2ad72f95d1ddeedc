import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from ml_common.statistics import (
    SMALLEST_SHARE,
    CalibrationBin,
    brier_score,
    brier_skill,
    calibration,
    kolmogorov_smirnov,
    population_stability_index,
)

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=20_000)
RAIN = np.where(RANDOM.random(20_000) < 0.95, 0, RANDOM.gamma(1, 0.1, 20_000))
SEATS = np.where(RANDOM.random(20_000) < 0.15, np.nan, RANDOM.choice([50, 140, 200], 20_000))
COLUMNS = {"normal": NORMAL, "zero-inflated": RAIN, "discrete": SEATS, "constant": np.full(100, 7.0)}


def test_the_psi_of_two_bins_is_the_value_computed_by_hand() -> None:
    reference, actual = [0, 1] * 50, [0] * 25 + [1] * 75
    expected = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert population_stability_index(reference, actual, bins=2) == pytest.approx(expected)


def test_the_psi_of_normal_distributions_is_that_of_their_densities() -> None:
    # The symmetric divergence of N(0, 1) and N(d, 1) is d², and bins lose a little of it.
    psi = population_stability_index(NORMAL, RANDOM.normal(0.5, size=20_000), bins=50)
    assert psi == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_psi_of_a_column_with_itself_in_any_order_and_number_is_zero(name: str) -> None:
    column = COLUMNS[name]
    assert population_stability_index(column, RANDOM.permutation(np.tile(column, 2))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_psi_of_another_sample_is_small_and_never_negative(name: str) -> None:
    half = len(COLUMNS[name]) // 2
    assert 0 <= population_stability_index(COLUMNS[name][:half], COLUMNS[name][half:]) < 0.01


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("other", [-1e9, 1e9, np.nan])
def test_the_psi_of_a_column_that_lost_its_values_is_large_and_finite(name: str, other: float) -> None:
    psi = population_stability_index(COLUMNS[name], np.full(1000, other))
    assert 1 < psi < -2 * math.log(SMALLEST_SHARE)


def test_the_psi_sees_that_most_zeros_of_a_zero_inflated_column_became_other_values() -> None:
    assert population_stability_index(RAIN, np.where(RANDOM.random(20_000) < 0.5, 0, 0.1)) > 0.25
    assert population_stability_index(RAIN, np.where(RANDOM.random(20_000) < 0.5, 0, -0.1)) > 0.25


def test_the_psi_sees_that_values_are_missing() -> None:
    lost = np.where(RANDOM.random(20_000) < 0.5, np.nan, NORMAL)
    assert population_stability_index(NORMAL, lost) > 0.25
    assert population_stability_index(lost, NORMAL) > 0.25
    assert population_stability_index([np.nan] * 10, [np.nan] * 5) == 0


@pytest.mark.parametrize(
    ("actual", "distance"), [([1, 2, 3, 4], 0), ([1, 2], 0.5), ([5, 6], 1), ([4, 4, np.nan], 0.75), ([2, 3], 0.25)]
)
def test_the_ks_distance_is_the_value_computed_by_hand(actual: list[float], distance: float) -> None:
    assert kolmogorov_smirnov([1, 2, 3, 4], actual) == pytest.approx(distance)
    assert kolmogorov_smirnov(actual, [4, 3, 2, 1, np.nan]) == pytest.approx(distance)


def test_there_is_no_ks_distance_to_a_column_without_values() -> None:
    assert kolmogorov_smirnov([1, 2], [np.nan]) is None
    assert kolmogorov_smirnov([], [1]) is None


def test_the_brier_score_is_the_one_of_sklearn() -> None:
    outcomes, probabilities = RANDOM.random(1000) < 0.2, RANDOM.random(1000)
    assert brier_score(outcomes, probabilities) == pytest.approx(brier_score_loss(outcomes, probabilities))
    assert brier_score([True, False], [0.5, 0.5]) == 0.25


def test_the_brier_skill_is_one_for_perfect_and_zero_for_constant_and_negative_for_worse_predictions() -> None:
    outcomes = [True, False, False, False]
    assert brier_skill(outcomes, [1, 0, 0, 0], 0.25) == 1
    assert brier_skill(outcomes, [0.25] * 4, 0.25) == 0
    assert brier_skill(outcomes, [0.5, 0, 0, 0], 0.25) == pytest.approx(1 - 0.25 / 0.75)
    assert brier_skill(outcomes, [0, 1, 0, 0], 0.25) == pytest.approx(1 - 2 / 0.75)


def test_there_is_no_brier_skill_against_a_constant_that_is_always_right() -> None:
    assert brier_skill([False, False], [0.1, 0], 0) is None


def test_calibration_compares_the_mean_prediction_with_the_share_that_came_true() -> None:
    probabilities, outcomes = [0.1, 0.1, 0.3, 0.3, 0.8, 1], [0, 0, 0, 1, 1, 1]
    found = [[one.predicted, one.observed, one.count] for one in calibration(outcomes, probabilities, bins=3)]
    assert np.array(found) == pytest.approx(np.array([[0.1, 0, 2], [0.3, 0.5, 2], [0.9, 1, 2]]))


def test_calibrated_predictions_lie_on_the_diagonal_and_each_counts_once() -> None:
    probabilities = RANDOM.random(50_000)
    bins = calibration(RANDOM.random(50_000) < probabilities, probabilities)
    assert [one.observed for one in bins] == pytest.approx([one.predicted for one in bins], abs=0.03)
    assert {one.count for one in bins} == {5000}


def test_equal_predictions_are_in_one_bin() -> None:
    assert calibration([True, False, False, False], [0.25] * 4) == [CalibrationBin(0.25, 0.25, 4)]
