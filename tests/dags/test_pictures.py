import io
import warnings
from collections.abc import Sequence

import matplotlib.axes
import pytest
import torch
from PIL import Image

from image_classifier import pictures
from image_classifier.evaluation import Example

ODD_NAMES = [
    r"$\frac{1}$ and $x^",
    "cat (adult)",
    "dog & wolf",
    "日本 🐈",
    "two\nlines\tand \x07 a bell",
    "é combined e\u0301",
    "long " * 50,
    "",
]


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(png)).size


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_class_name_can_be_drawn_without_a_warning(name: str) -> None:
    few, many = [name, "other"], [name, *names(60)]
    example = Example(torch.zeros(3, 32, 32, dtype=torch.uint8), name, "other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for png in (
            pictures.confusion_picture([name, "other"], ["other", name], few),
            pictures.confusion_picture([name, "class 1"], ["class 1", name], many),
            pictures.predictions_picture([example, Example(example.image, "other", name)]),
        ):
            assert size(png) > (400, 400)


def test_a_caption_escapes_only_characters_that_the_font_lacks() -> None:
    assert pictures.caption("cat (adult) & $x$ é", 24) == "cat (adult) & $x$ é"
    assert pictures.caption("a\n日", 24) == r"a\n\u65e5"


def test_a_long_caption_keeps_its_ends() -> None:
    assert pictures.caption("the very long name of a class, number 12", 16) == "the very l… number 12"[:10] + "…er 12"
    assert len(pictures.caption("x" * 1000, 24)) == 24


def test_a_dollar_sign_does_not_start_a_formula() -> None:
    assert matplotlib.rcParams["text.parse_math"] is False


def test_the_picture_of_many_classes_has_a_fixed_size() -> None:
    sizes = {size(pictures.confusion_picture(names(n), names(n)[::-1], names(n))) for n in (41, 102, 200, 1000)}
    assert len(sizes) == 1
    assert max(sizes) < (2500, 2500)


def test_the_most_frequent_mistakes_among_many_classes_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    set_yticks = matplotlib.axes.Axes.set_yticks

    def noted(axes: matplotlib.axes.Axes, ticks: Sequence[float], labels: Sequence[str]) -> None:
        drawn.extend(labels)
        set_yticks(axes, ticks, labels)

    monkeypatch.setattr(matplotlib.axes.Axes, "set_yticks", noted)
    classes = names(300)
    truths = ["class 7"] * 3 + ["class 8"] * 2 + classes
    predicted = ["class 9"] * 3 + ["class 200"] * 2 + classes
    pictures.confusion_picture(truths, predicted, classes)
    listed = [label for label in drawn if "predicted as" in label]
    assert listed == ["class 7 predicted as class 9", "class 8 predicted as class 200"]


def test_few_predictions_fill_part_of_the_grid() -> None:
    assert size(pictures.predictions_picture([])) == size(
        pictures.predictions_picture([Example(torch.zeros(3, 32, 32, dtype=torch.uint8), "a", "a")] * 40)
    )
