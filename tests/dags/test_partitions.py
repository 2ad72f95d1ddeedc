"""Which days a run processes."""

from datetime import date

import pytest

from ml_common import partitions
from ml_common.errors import PermanentError

PARAMS = {"first": "2013-02-27", "last": "2013-03-01"}


def test_a_run_with_a_partition_key_processes_this_day() -> None:
    assert partitions.days("2013-01-31", PARAMS) == [date(2013, 1, 31)]


def test_a_run_without_a_partition_key_processes_the_days_of_its_params() -> None:
    assert partitions.days(None, PARAMS) == [date(2013, 2, 27), date(2013, 2, 28), date(2013, 3, 1)]


def test_days_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(PermanentError, match=r"^The Param `last`, 2013-01-01, is before the Param `first`, 2013-01-02"):
        partitions.days(None, {"first": "2013-01-02", "last": "2013-01-01"})


@pytest.mark.parametrize(
    ("key", "params", "name"),
    [("2013-01", PARAMS, "partition key"), (None, {**PARAMS, "first": "2013-02-29"}, "Param `first`")],
)
def test_what_is_not_a_day_is_refused(key: str | None, params: dict[str, str], name: str) -> None:
    with pytest.raises(
        PermanentError, match=rf"^The {name} is '2013-.*': start a run with a day, such as 2013-01-31\.$"
    ):
        partitions.days(key, params)


def test_the_days_before_are_added_once() -> None:
    found = partitions.with_days_before([date(2013, 3, 1), date(2013, 3, 2)], 2)
    assert found == [date(2013, 2, 27), date(2013, 2, 28), date(2013, 3, 1), date(2013, 3, 2)]
