"""What an environment takes of its base's outputs."""

from collections.abc import Callable
from typing import Any

import pulumi

from infra.airflow_platform import Buckets

# Returns an output of the base by its name.
Outputs = Callable[[str], pulumi.Output[Any]]


def buckets_of(outputs: Outputs, prefix: str) -> Buckets:
    """Return the base's buckets, of which the environment has what begins with a prefix."""
    return Buckets(
        data=outputs("data_bucket"),
        artifacts=outputs("artifacts_bucket"),
        logs=outputs("logs_bucket"),
        prefix=prefix,
    )
