"""Held-out metrics of a classifier and the two pictures that show them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from image_classifier.model import Classifier

DOTS_PER_INCH = 110
GRID_COLUMNS = 8
GRID_ROWS = 5


@dataclass(frozen=True)
class HeldOut:
    """Held-out images, uint8 [N, 3, S, S], and the name of the true class of each."""

    images: Tensor
    labels: Sequence[str]


def predict(classifier: Classifier, held_out: HeldOut) -> list[str]:
    """The name of the most probable class of each image."""
    best = classifier.probabilities(held_out.images).argmax(1).tolist()
    return [classifier.classes[index] for index in best]


def accuracy(classifier: Classifier, held_out: HeldOut) -> float:
    """Share of right names; a class that the classifier does not know counts as wrong."""
    return float(accuracy_score(held_out.labels, predict(classifier, held_out)))


def metrics(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, and precision, recall, F1 and number of images of each class."""
    columns = precision_recall_fscore_support(labels, predicted, labels=list(classes), zero_division=0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "images": int(count)}
        for name, p, r, f1, count in zip(classes, *columns, strict=True)
    }
    return {"accuracy": float(accuracy_score(labels, predicted)), "images": len(labels), "per_class": per_class}


def confusion_picture(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> bytes:
    """Confusion matrix as PNG: rows are true classes, columns predictions."""
    side = max(5.0, 0.45 * len(classes) + 2)
    figure = Figure(figsize=(side, side), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    counts = confusion_matrix(labels, predicted, labels=list(classes))
    display = ConfusionMatrixDisplay(counts, display_labels=list(classes))
    display.plot(ax=axes, colorbar=False, cmap="Blues", xticks_rotation="vertical")
    axes.set_title(f"{len(labels)} held-out images, {np.trace(counts)} right")
    return _png(figure)


def predictions_picture(held_out: HeldOut, predicted: Sequence[str]) -> bytes:
    """Grid of held-out images with their predictions as PNG: the wrong ones, then right ones from all over the list."""
    right = [index for index, guess in enumerate(predicted) if guess == held_out.labels[index]]
    wrong = [index for index, guess in enumerate(predicted) if guess != held_out.labels[index]]
    free_cells = max(1, GRID_COLUMNS * GRID_ROWS - len(wrong))
    shown = wrong + right[:: max(1, len(right) // free_cells)]
    figure = Figure(figsize=(GRID_COLUMNS * 1.2, GRID_ROWS * 1.45), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle("Held-out images with predictions; wrong ones first and in red")
    figure.subplots(GRID_ROWS, GRID_COLUMNS, subplot_kw={"xticks": [], "yticks": [], "frame_on": False})
    for axes, index in zip(figure.axes, shown, strict=False):
        truth, guess = held_out.labels[index], predicted[index]
        axes.imshow(held_out.images[index].permute(1, 2, 0).numpy())
        title, colour = (guess, "black") if guess == truth else (f"{guess}, not {truth}", "red")
        axes.set_title(title, color=colour, fontsize=9)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
