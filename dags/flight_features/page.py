"""The page of partitions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_common import pages

TEMPLATE = Path(__file__).with_name("partitions.html.j2")


def render(partitions: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the page of these rows of the table `flight_features_partitions`, in the order of their days."""
    published = [partition for partition in partitions if partition["checksum"]]
    return pages.render(
        TEMPLATE,
        published=published,
        rows=sum(partition["counts"]["rows"] for partition in published),
        rejected=sum(sum(partition["rejected"].values()) for partition in published),
        warned=sum(bool(partition["warnings"]) for partition in published),
        halted=[partition for partition in partitions if partition["halted"]],
    )
