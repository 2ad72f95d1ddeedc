"""Metrics of a classifier on held-out images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import Tensor

from image_classifier.model import Classifier
from image_classifier.shards import Shards

EXAMPLES = 40
# Images to classify before the caller gets the first one. Until then the caller keeps an image of the shard before, and
# with it that whole shard.
BATCH = 64


@dataclass(frozen=True)
class Example:
    """A held-out image, uint8 [3, S, S], with the names of its true and predicted classes."""

    image: Tensor
    truth: str
    predicted: str


@dataclass(frozen=True)
class Predictions:
    """The true and predicted class of each held-out image, and some of the images, wrong ones first."""

    truths: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def predict(classifier: Classifier, held_out: Shards, classes: Sequence[str]) -> Predictions:
    """Classify each image; `classes` are the names of the labels in `held_out`."""
    wrong: list[Example] = []
    right: list[Example] = []
    predictions = Predictions()
    for image, truth, guess in _guesses(classifier, held_out, classes):
        predictions.truths.append(truth)
        predictions.predicted.append(guess)
        kept = right if guess == truth else wrong
        if len(kept) < EXAMPLES:
            # A view would keep the whole shard in memory.
            kept.append(Example(image.clone(), truth, guess))
    predictions.examples.extend([*wrong, *right][:EXAMPLES])
    return predictions


def accuracy(classifier: Classifier, held_out: Shards, classes: Sequence[str]) -> float:
    """Return the share of correct predictions; a class that the classifier does not know counts as wrong."""
    guesses = [guess == truth for _, truth, guess in _guesses(classifier, held_out, classes)]
    return sum(guesses) / len(guesses)


def _guesses(classifier: Classifier, held_out: Shards, classes: Sequence[str]) -> Iterator[tuple[Tensor, str, str]]:
    for shard in held_out.read():
        for images, labels in zip(*(torch.split(tensor, BATCH) for tensor in shard), strict=True):
            best = classifier.probabilities(images).argmax(1)
            for image, label, guess in zip(images, labels.tolist(), best.tolist(), strict=True):
                yield image, classes[label], classifier.classes[guess]


def metrics(truths: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy, and the precision, recall, F1 and number of images of each class."""
    columns = precision_recall_fscore_support(truths, predicted, labels=list(classes), zero_division=0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "images": int(count)}
        for name, p, r, f1, count in zip(classes, *columns, strict=True)
    }
    return {"accuracy": float(accuracy_score(truths, predicted)), "images": len(truths), "per_class": per_class}
