"""The pictures of an evaluation, as PNG files."""

from collections.abc import Mapping, Sequence

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score, roc_curve

from ml_common import charts
from ml_common.statistics import CalibrationBin


def roc(late: "pd.Series[bool]", predicted: Mapping[str, ArrayLike]) -> bytes:
    """Draw the ROC curve of each named prediction of the same flights."""
    figure = charts.figure(6, 5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="lightgrey", linestyle="--")
    for name, probabilities in predicted.items():
        false_positives, true_positives, _ = roc_curve(late, probabilities)
        axes.plot(false_positives, true_positives, label=f"{name}, AUC {roc_auc_score(late, probabilities):.3f}")
    axes.set_xlabel("share of flights in time that are called late")
    axes.set_ylabel("share of late flights that are found")
    axes.set_title("ROC curve")
    axes.legend(loc="lower right")
    return charts.png(figure)


def calibration(bins: Mapping[str, Sequence[CalibrationBin]]) -> bytes:
    """Draw a reliability diagram with the bins of each named prediction."""
    figure = charts.figure(6, 5)
    axes = figure.subplots()
    largest = max(max(one.predicted, one.observed) for of_model in bins.values() for one in of_model)
    axes.plot([0, largest], [0, largest], color="lightgrey", linestyle="--")
    for name, of_model in bins.items():
        axes.plot([one.predicted for one in of_model], [one.observed for one in of_model], marker="o", label=name)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share of late flights")
    axes.set_title("Calibration")
    axes.legend(loc="upper left")
    return charts.png(figure)


def importance(losses: Mapping[str, float]) -> bytes:
    """Draw how much AUC is lost without each feature."""
    figure = charts.figure(6, 5)
    axes = figure.subplots()
    axes.barh(list(losses), list(losses.values()))
    axes.invert_yaxis()
    axes.set_xlabel("AUC lost when the feature is permuted")
    axes.set_title("Importance of the features")
    return charts.png(figure)
