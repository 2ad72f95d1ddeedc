"""What holds for every test."""

from collections.abc import Generator
from pathlib import Path

import pytest

from ops.process_environment import TESTS, enter

enter(TESTS)  # before a library reads a variable of the user's

from infra.airflow.chart import ChartUnreachableError, archive  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """Skip what needs the chart where it is neither in the cache nor to be had."""
    return (yield from skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip what needs the chart where it is neither in the cache nor to be had."""
    return (yield from skipping())


def skipping() -> Generator[None, object, object]:
    try:
        return (yield)
    except ChartUnreachableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def chart() -> Path:
    """Return the chart's archive, for what needs it in a process of its own."""
    return archive()
