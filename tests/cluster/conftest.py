import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("KUBECONFIG"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="KUBECONFIG names no cluster"))
