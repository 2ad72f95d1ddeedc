"""The page of partitions: one self-contained HTML file, without external scripts, fonts or images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = Path(__file__).with_name("partitions.html.j2")


def render(partitions: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of these rows of the table `flight_features_partitions`, in the order of their days."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    published = [partition for partition in partitions if partition["checksum"]]
    return environment.get_template(TEMPLATE.name).render(
        partitions=partitions,
        published=published,
        rows=sum(partition["counts"]["rows"] for partition in published),
        rejected=sum(sum(partition["rejected"].values()) for partition in published),
        warned=sum(bool(partition["warnings"]) for partition in published),
        halted=[partition for partition in partitions if partition["halted"]],
    )
