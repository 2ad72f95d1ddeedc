import pytest
from mlflow.utils.validation import _validate_metric_name

from image_classifier.metric_names import metric_name

NAMES = [
    "cat (adult)",
    "dog & wolf",
    "dog ' wolf",
    "a/b",
    "a//b",
    "..",
    ".",
    " ",
    "a:28:b",
    "a(b",
    "grüne Äpfel",
    "日本",
    "🐈",
    "e\u0301",
    "\u00e9",
    "line\nbreak",
    "\x00\x07",
    "$x$",
    "%2F",
    "x" * 300,
    "x" * 299 + "y",
    "(" * 100,
    "🐈" * 255,
]


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_of_any_class_has_a_name_that_mlflow_accepts(name: str) -> None:
    _validate_metric_name(metric_name(f"f1_{name}"))
    assert len(metric_name(f"f1_{name}")) <= 250


def test_different_classes_have_different_metrics() -> None:
    assert len({metric_name(f"f1_{name}") for name in NAMES}) == len(NAMES)


def test_a_name_that_mlflow_accepts_is_unchanged() -> None:
    assert metric_name("f1_grüne Äpfel-2.0_x") == "f1_grüne Äpfel-2.0_x"
    assert metric_name("f1_cat (adult)") == "f1_cat :28:adult:29:"
