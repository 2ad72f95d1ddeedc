"""Build what a stack's cluster lacks, and bring it there."""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import Nodes
from infra.release import ReleasedImage
from ops.console import Echo
from ops.images.build_context import build_context
from ops.images.built import write_built
from ops.images.destinations import Destination
from ops.images.tools import Tool, tool_at_hand

# Free disk in GiB that building an image takes; those with PyTorch take more, most of all with its CUDA libraries.
NEEDED_GIB = 2
NEEDED_GIB_OF: Mapping[str, int] = {"ml": 10, "serving": 4}


def full_names(destination: Destination, nodes: Nodes) -> Mapping[str, str]:
    """Return the full name of each image that a stack runs, with the tag of its content.

    Raises:
        ImageError: A Dockerfile copies what is not there.
    """
    return {name: f"{destination.repository(name)}:{content.tag(name, nodes=nodes)}" for name in content.names()}


def build(destination: Destination, nodes: Nodes, echo: Echo, built: Path | None = None) -> None:
    """Build and deliver each image that is not there yet.

    BASE_IMAGE_<NAME> names another base than the Dockerfile of that image does.

    Args:
        destination: Where the images go.
        nodes: What they are for.
        say: Shows a line of progress.
        built: The file in which each image is noted as soon as it is pushed.

    Raises:
        ImageError: An image cannot be built or delivered; those before it are there.
        OperationError: AWS refuses a request, or cannot be asked.
    """
    names = full_names(destination, nodes)
    missing = [name for name, full_name in names.items() if not destination.has(full_name)]
    pushed: dict[str, ReleasedImage] = {}
    if built:
        write_built(built, pushed)
    if not missing:
        echo(f"all {len(names)} images are there")
        return
    tool = tool_at_hand()
    unbuilt = [name for name in with_bases(missing) if not tool.has(names[name])]
    check_disk(tool, unbuilt)
    for name in with_bases(missing):
        started = time.monotonic()
        if name in unbuilt:
            echo(f"{name}: {tool.name} builds {names[name]}")
            _build_one(tool, name, names, nodes)
        if name in missing:
            echo(f"{name}: on its way to where the cluster finds it")
            if (digest := destination.deliver(tool, names[name])) and built:
                repository, _, tag = names[name].rpartition(":")
                pushed[name] = ReleasedImage(repository=repository, tag=tag, digest=digest)
                write_built(built, pushed)
        echo(f"{name}: ready after {time.monotonic() - started:.0f} s")


def with_bases(images: Collection[str]) -> Sequence[str]:
    """Return the images and those that they are based on, in the order in which they are built."""
    wanted = {*images, *(base for image in images for base in content.bases(image).values())}
    return [name for name in content.names() if name in wanted]


def check_disk(tool: Tool, images: Iterable[str]) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        ImageError: It has not.
    """
    needed = sum(NEEDED_GIB_OF.get(image, NEEDED_GIB) for image in images)
    for folder in filter(None, (tool.store(), Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 2**30
        if free < needed:
            raise ImageError(
                f"{free:.0f} GiB are free on the disk of {folder} and the images need {needed} GiB: free some space"
            )


def _build_one(tool: Tool, name: str, names: Mapping[str, str], nodes: Nodes) -> None:
    arguments = {argument: names[base] for argument, base in content.bases(name).items()}
    arguments |= nodes.arguments(name)
    if base := os.environ.get(f"BASE_IMAGE_{name.upper()}"):
        arguments["BASE_IMAGE"] = base
    with build_context(name) as folder:
        dockerfile = folder / "images" / name / "Dockerfile"
        tool.build(names[name], folder, dockerfile, arguments, nodes.architecture)
