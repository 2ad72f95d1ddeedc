"""The images of an environment: built from this working tree, in separate repositories from those of its base."""

from collections.abc import Mapping
from pathlib import Path

import pulumi

from infra.images import content
from infra.images.nodes import nodes_of


def tags(base: str) -> Mapping[str, str]:
    """Return the tag of each image for the nodes of the base."""
    nodes = nodes_of(base, Path(pulumi.get_root_directory()))
    return {name: content.tag(name, nodes=nodes) for name in content.names()}
