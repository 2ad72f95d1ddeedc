import pytest

from ml_common.errors import PermanentError
from ml_common.gate import Gate

GATE = Gate("Accuracy", "minimum_accuracy", "held-out images", "add images")


def test_the_first_model_above_the_minimum_is_promoted() -> None:
    verdict = GATE.judge(0.98, 0.97, None, None)
    assert verdict.promote
    assert "there was no champion" in verdict.reason


def test_a_model_below_the_minimum_fails_and_the_error_names_the_champion_that_stays() -> None:
    with pytest.raises(
        PermanentError,
        match=r"0\.9600 on the held-out images is below minimum_accuracy 0\.9700.*version 3 keeps.*: add images\.$",
    ):
        GATE.judge(0.96, 0.97, "3", 0.5)


def test_a_model_below_the_minimum_without_a_champion_says_so() -> None:
    with pytest.raises(PermanentError, match="there is no champion yet"):
        GATE.judge(0.1, 0.97, None, None)


def test_a_model_at_the_minimum_passes() -> None:
    assert GATE.judge(0.97, 0.97, None, None).promote


def test_a_model_worse_than_the_champion_is_not_promoted_and_does_not_fail() -> None:
    verdict = GATE.judge(0.98, 0.97, "3", 0.99)
    assert not verdict.promote
    assert "0.9800 is below the 0.9900 of version 3" in verdict.reason


def test_a_tie_goes_to_the_new_model() -> None:
    assert GATE.judge(0.98, 0.97, "3", 0.98).promote
