"""What holds for every test."""

import gc
from collections.abc import Generator
from pathlib import Path

import pytest

from ops.process_environment import TESTS, enter

enter(TESTS)  # before a library reads a variable of the user's
# A worker imports tens of thousands of generated classes; the default would search them for garbage again and again.
gc.set_threshold(100_000, 50, 100)

from infra.airflow.chart import ChartUnreachableError, archive  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End with the tests that start whole systems: in CI, the cluster has ended by then and the cores are free."""
    items.sort(key=lambda item: item.path.parent.name == "e2e")


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
