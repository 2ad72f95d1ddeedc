"""What holds for every test."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from infra import computing
from ops.process_environment import TESTS, enter

enter(TESTS)  # before a library reads a variable of the user's
os.environ.update(computing.VARIABLES)  # tests compute on the same cores as other workers
# A worker imports tens of thousands of generated classes; the default would search them for garbage again and again.
gc.set_threshold(100_000, 50, 100)

from infra.airflow.chart import ChartUnreachableError, archive  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest file late, when CI has free cores, but not last, when the other workers have no tests left."""

    def order(item: pytest.Item) -> tuple[str, bool]:
        folder = item.path.parent.name
        return ("images", True) if folder == "e2e" else (folder, False)

    items.sort(key=order)


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
