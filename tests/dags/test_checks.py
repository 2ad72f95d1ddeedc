"""Which counts violate a check, and what is said about it."""

from datetime import date, timedelta

import pytest

from ml_common import checks
from ml_common.checks import Check, Finding
from ml_common.errors import PermanentError

FIRST = date(2013, 1, 1)
NO_GUST = Check("missing", "hours", 0.75, "lacks the wind gust in {missing} of {hours} hours", halts=False)
EMPTY = Check("empty", "flights", 0, "has no flights", halts=True)


@pytest.mark.parametrize(("missing", "warned"), [(0, False), (54, False), (55, True), (72, True)])
def test_more_than_the_limit_is_found(missing: int, warned: bool) -> None:
    found = checks.findings([NO_GUST], {FIRST: {"missing": missing, "hours": 72}})
    sentence = f"lacks the wind gust in {missing} of 72 hours"
    assert found == ([Finding(FIRST, sentence, halts=False)] if warned else [])


def test_a_count_without_a_total_is_found() -> None:
    assert checks.findings([EMPTY], {FIRST: {"empty": 1, "flights": 0}}) == [
        Finding(FIRST, "has no flights", halts=True)
    ]


def test_nothing_of_nothing_is_not_found() -> None:
    assert checks.findings([NO_GUST], {FIRST: {"missing": 0, "hours": 0}}) == []


def test_a_warning_does_not_halt() -> None:
    checks.halt([Finding(FIRST, "lacks something", halts=False)], "do something")


def test_a_halt_names_the_day_and_the_remedy_in_one_sentence() -> None:
    with pytest.raises(PermanentError, match=r"^Nothing was published: 2013-01-01 has no flights; do something\.$"):
        checks.halt([Finding(FIRST, "has no flights", halts=True)], "do something")


def test_a_halt_of_many_days_names_the_first_ones() -> None:
    found = [Finding(FIRST + timedelta(days=number), "is empty", halts=True) for number in range(5)]
    expected = (
        r"^Nothing was published: 2013-01-01 is empty, 2013-01-02 is empty, 2013-01-03 is empty, and 2 more; redo\.$"
    )
    with pytest.raises(PermanentError, match=expected):
        checks.halt(found, "redo")
