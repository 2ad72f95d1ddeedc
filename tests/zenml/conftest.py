"""Tests with ZenML itself, where its environment is installed."""

import pytest

from ops.environments import interpreter


@pytest.fixture(scope="session", autouse=True)
def zenml_is_installed() -> None:
    if not interpreter("zenml").exists():
        pytest.skip("ZenML is not installed: run `make .venv-zenml/ready`")
