import pytest
import torch
from torch import Tensor, nn

from image_classifier.evaluation import EXAMPLES, accuracy, metrics, predict
from image_classifier.model import Classifier
from image_classifier.shards import Shards

CLASSES = ("bright", "dark", "dim")


class BrightnessNetwork(nn.Module):
    """Distinguishes dark images (output 0) from bright ones (output 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.mean((1, 2, 3))
        return torch.stack([-brightness, brightness], 1)


def held_out(*parts: list[str]) -> Shards:
    """A shard for each list of class names; all pictures except those of `bright` are dark."""

    def load(index: int) -> tuple[Tensor, Tensor]:
        pictures = [
            torch.full((3, 32, 32), 250 if label == "bright" else 5, dtype=torch.uint8) for label in parts[index]
        ]
        return torch.stack(pictures), torch.tensor([CLASSES.index(label) for label in parts[index]])

    return Shards([len(part) for part in parts], load)


def brightness_classifier(*classes: str) -> Classifier:
    return Classifier(BrightnessNetwork(), "brightness", classes, 32)


def test_accuracy_counts_correct_predictions_in_all_shards() -> None:
    images = held_out(["dark", "bright"], ["dark"])
    assert accuracy(brightness_classifier("dark", "bright"), images, CLASSES) == 1.0
    assert accuracy(brightness_classifier("bright", "dark"), images, CLASSES) == 0.0


def test_a_shard_is_released_before_most_of_the_next_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = Classifier.probabilities

    def probabilities(self: Classifier, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return whole(self, images)

    monkeypatch.setattr(Classifier, "probabilities", probabilities)
    shards = held_out(["dark"] * 150, ["bright"] * 100)
    assert accuracy(brightness_classifier("dark", "bright"), shards, CLASSES) == 1.0
    assert sizes == [64, 64, 22, 64, 36]


def test_a_class_that_the_classifier_does_not_know_counts_as_wrong() -> None:
    assert accuracy(brightness_classifier("dark", "bright"), held_out(["dim", "bright"]), CLASSES) == 0.5


def test_predictions_keep_their_images_and_show_wrong_ones_first() -> None:
    images = held_out(["dark", "bright"] * EXAMPLES, ["dim", "bright"])
    predictions = predict(brightness_classifier("dark", "bright"), images, CLASSES)
    assert predictions.truths == ["dark", "bright"] * EXAMPLES + ["dim", "bright"]
    assert predictions.predicted == ["dark", "bright"] * EXAMPLES + ["dark", "bright"]
    assert len(predictions.examples) == EXAMPLES
    assert (predictions.examples[0].truth, predictions.examples[0].predicted) == ("dim", "dark")
    assert all(example.truth == example.predicted for example in predictions.examples[1:])


def test_an_example_keeps_no_more_than_its_own_pixels() -> None:
    [first, *_] = predict(brightness_classifier("dark", "bright"), held_out(["dark"] * 100), CLASSES).examples
    assert first.image.untyped_storage().nbytes() == 3 * 32 * 32


def test_metrics_of_each_class() -> None:
    result = metrics(["a", "a", "b", "b"], ["a", "b", "b", "b"], ["a", "b", "c"])
    assert result["accuracy"] == 0.75
    assert result["per_class"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "images": 2}
    assert result["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 0}
