"""The two plots of an evaluation, as PNG files, at a cost that does not depend on the number of classes."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from image_classifier.evaluation import Example
from ml_common import charts

GRID_COLUMNS = 8
GRID_ROWS = 5
# With more classes than this, counts and names in a matrix are too small to read.
READABLE_CLASSES = 40
LISTED_CONFUSIONS = 25
NAMED_ROWS = 20
NAME_LENGTH = 24
GRID_NAME_LENGTH = 16


def confusion_picture(truths: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> bytes:
    """Draw a confusion matrix: rows are true classes, columns predictions, colours the share of a row.

    Up to READABLE_CLASSES classes, it has names and counts. For more classes, it is an overview next to a list of the
    most frequent mistakes.
    """
    counts: NDArray[np.int64] = confusion_matrix(truths, predicted, labels=list(classes))
    if len(classes) <= READABLE_CLASSES:
        side = max(5.0, 0.45 * len(classes) + 2)
        figure = charts.figure(side, side)
        _draw_matrix(figure.subplots(), counts, classes)
    else:
        figure = charts.figure(18, 10)
        overview, mistakes = figure.subplots(1, 2, width_ratios=(5, 4))
        _draw_overview(overview, counts, classes)
        _draw_mistakes(mistakes, counts, classes)
    figure.suptitle(f"{counts.sum()} held-out images, {np.trace(counts)} correct")
    return charts.png(figure)


def predictions_picture(examples: Sequence[Example]) -> bytes:
    """Draw a grid of held-out images with their predictions."""
    figure = charts.figure(GRID_COLUMNS * 1.4, GRID_ROWS * 1.75)
    figure.suptitle("Held-out images with predictions; wrong ones first and in red")
    figure.subplots(GRID_ROWS, GRID_COLUMNS, subplot_kw={"xticks": [], "yticks": [], "frame_on": False})
    for axes, example in zip(figure.axes, examples, strict=False):
        axes.imshow(example.image.permute(1, 2, 0).numpy())
        title, colour = caption(example.predicted, GRID_NAME_LENGTH), "black"
        if example.predicted != example.truth:
            title, colour = f"{title}\nnot {caption(example.truth, GRID_NAME_LENGTH)}", "red"
        axes.set_title(title, color=colour, fontsize=8)
    return charts.png(figure)


def caption(name: str, length: int) -> str:
    """Escape the characters of `name` that the font lacks, and shorten it in the middle to `length` characters."""
    drawn = "".join(
        character
        if character.isprintable() and ord(character) in _characters_of_the_font()
        else character.encode("unicode_escape").decode()
        for character in name
    )
    if len(drawn) <= length:
        return drawn
    end = length // 3
    return f"{drawn[: length - end - 1]}…{drawn[-end:]}"


@cache
def _characters_of_the_font() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _draw_matrix(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    names = [caption(name, NAME_LENGTH) for name in classes]
    shares = _draw_shares(axes, counts)
    axes.set_xticks(range(len(names)), names, rotation="vertical")
    axes.set_yticks(range(len(names)), names)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = axes.text(column, row, str(counts[row, column]), color=colour, ha="center", va="center")
        text.set_in_layout(False)  # measuring each of them takes longer than drawing it


def _draw_overview(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    _draw_shares(axes, counts)
    named = range(0, len(classes), -(-len(classes) // NAMED_ROWS))
    names = [caption(classes[index], NAME_LENGTH) for index in named]
    axes.set_xticks(named, names, rotation="vertical")
    axes.set_yticks(named, names)
    axes.set_title(f"all {len(classes)} classes, some with names")


def _draw_shares(axes: Axes, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return shares


def _draw_mistakes(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    most_frequent = np.argsort(-mistakes, axis=None, kind="stable")[:LISTED_CONFUSIONS]
    rows, columns = np.unravel_index(most_frequent[mistakes.flat[most_frequent] > 0], mistakes.shape)
    labels = [
        f"{caption(classes[row], NAME_LENGTH)} predicted as {caption(classes[column], NAME_LENGTH)}"
        for row, column in zip(rows, columns, strict=True)
    ]
    bars = axes.barh(range(len(labels)), mistakes[rows, columns])
    axes.bar_label(bars, padding=3)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_title("most frequent mistakes" if labels else "no mistakes")
