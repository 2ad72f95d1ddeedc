import io

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from image_classifier.evaluation import HeldOut, accuracy, confusion_picture, metrics, predictions_picture
from image_classifier.model import Classifier


class BrightnessNetwork(nn.Module):
    """Tells a dark image, output 0, from a bright one, output 1."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.mean((1, 2, 3))
        return torch.stack([-brightness, brightness], 1)


def held_out(*labels: str) -> HeldOut:
    pictures = [torch.full((3, 32, 32), 250 if label == "bright" else 5, dtype=torch.uint8) for label in labels]
    return HeldOut(torch.stack(pictures), labels)


def brightness_classifier(*classes: str) -> Classifier:
    return Classifier(BrightnessNetwork(), classes, 32)  # type: ignore[arg-type]


def test_accuracy_counts_right_names() -> None:
    assert accuracy(brightness_classifier("dark", "bright"), held_out("dark", "bright", "dark")) == 1.0
    assert accuracy(brightness_classifier("bright", "dark"), held_out("dark", "bright", "dark")) == 0.0


def test_a_class_that_the_classifier_does_not_know_counts_as_wrong() -> None:
    images = held_out("dim", "bright")
    assert accuracy(brightness_classifier("dark", "bright"), images) == 0.5


def test_metrics_of_each_class() -> None:
    result = metrics(["a", "a", "b", "b"], ["a", "b", "b", "b"], ["a", "b", "c"])
    assert result["accuracy"] == 0.75
    assert result["per_class"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "images": 2}
    assert result["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 0}


def test_pictures_are_png_files() -> None:
    images = held_out(*["dark", "bright"] * 30)
    for data in (
        confusion_picture(images.labels, images.labels, ["bright", "dark"]),
        predictions_picture(images, ["dark"] * 60),
        predictions_picture(held_out("dark"), ["dark"]),
    ):
        assert Image.open(io.BytesIO(data)).size > (400, 400)
