"""The outputs of the base that an environment uses."""

from collections.abc import Callable
from typing import Any

import pulumi

from infra.airflow_platform import Buckets

# A function that returns an output of the base by its name.
Outputs = Callable[[str], pulumi.Output[Any]]


def buckets_of(outputs: Outputs, prefix: str) -> Buckets:
    """Return the base's buckets, with the environment's prefix."""
    return Buckets(
        data=outputs("data_bucket"),
        artifacts=outputs("artifacts_bucket"),
        logs=outputs("logs_bucket"),
        prefix=prefix,
    )
