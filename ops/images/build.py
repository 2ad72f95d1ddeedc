"""Build the images that a stack's cluster does not have yet, and deliver them."""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from infra.documents import REPOSITORY
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import Nodes
from infra.release import ReleasedImage
from ops.console import Echo
from ops.images.built import write_built
from ops.images.tools import TIMESTAMP, Tool, available_tool

# The free disk space in GiB for building an image, and one with PyTorch, whose CUDA libraries are large.
NEEDED_GIB = 2
NEEDED_GIB_WITH_TORCH = 10
TORCH = Path("requirements/torch.txt")


class Destination(Protocol):
    """A registry, or the nodes of a cluster."""

    def repository(self, image: str) -> str:
        """Return the full name of an image, without a tag."""

    def has(self, name: str) -> bool:
        """Return whether the destination has the image with this full name."""

    def deliver(self, tool: Tool, name: str) -> str | None:
        """Deliver an image from a tool's store; return its digest if the destination is a registry."""


def full_names(destination: Destination, nodes: Nodes) -> Mapping[str, str]:
    """Return the full name of each image of a stack, with the tag derived from its content.

    Raises:
        ImageError: A Dockerfile copies a file that does not exist.
    """
    return {name: f"{destination.repository(name)}:{content.tag(name, nodes=nodes)}" for name in content.names()}


def build(destination: Destination, nodes: Nodes, echo: Echo, built: Path | None = None) -> None:
    """Build and deliver each image that the destination does not have yet.

    BASE_IMAGE_<NAME> overrides the base image in the Dockerfile of <NAME>.

    Args:
        destination: Where the images are delivered.
        nodes: The nodes that run the images.
        echo: Prints a line of progress.
        built: The file that records each image as soon as it is pushed.

    Raises:
        ImageError: An image cannot be built or delivered; the images before it were delivered.
        OperationError: AWS rejects a request or cannot be reached.
    """
    names = full_names(destination, nodes)
    missing = [name for name, full_name in names.items() if not destination.has(full_name)]
    pushed: dict[str, ReleasedImage] = {}
    if built:
        write_built(built, pushed)
    if not missing:
        echo(f"all {len(names)} images are up to date")
        return
    tool = available_tool()
    unbuilt = [name for name in with_bases(missing) if not tool.has(names[name])]
    check_disk(tool, unbuilt)
    for name in with_bases(missing):
        started = time.monotonic()
        if name in unbuilt:
            echo(f"{name}: building {names[name]} with {tool.name}")
            _build_one(tool, name, names, nodes)
        if name in missing:
            echo(f"{name}: delivering {names[name]}")
            if (digest := destination.deliver(tool, names[name])) and built:
                repository, _, tag = names[name].rpartition(":")
                pushed[name] = ReleasedImage(repository=repository, tag=tag, digest=digest)
                write_built(built, pushed)
        echo(f"{name}: ready after {time.monotonic() - started:.0f} s")


def with_bases(images: Collection[str]) -> Sequence[str]:
    """Return the images and their base images, in build order."""
    wanted = {*images, *(base for image in images for base in content.bases(image).values())}
    return [name for name in content.names() if name in wanted]


def check_disk(tool: Tool, images: Iterable[str]) -> None:
    """Check that the disk has enough free space to build the images.

    Raises:
        ImageError: It does not.
    """
    needed = sum(needed_gib(image) for image in images)
    for folder in filter(None, (tool.store(), Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 2**30
        if free < needed:
            raise ImageError(
                f"the disk of {folder} has {free:.0f} GiB free, and the images need {needed} GiB: free some space"
            )


def needed_gib(image: str, root: Path = REPOSITORY) -> int:
    """Return the free disk space in GiB that building an image needs."""
    return NEEDED_GIB_WITH_TORCH if root / TORCH in content.files(image, root) else NEEDED_GIB


def _build_one(tool: Tool, name: str, names: Mapping[str, str], nodes: Nodes) -> None:
    arguments = {argument: names[base] for argument, base in content.bases(name).items()}
    arguments |= nodes.arguments(name)
    if base := os.environ.get(f"BASE_IMAGE_{name.upper()}"):
        arguments["BASE_IMAGE"] = base
    with build_context(name) as folder:
        dockerfile = folder / "images" / name / "Dockerfile"
        tool.build(names[name], folder, dockerfile, arguments, nodes.architecture)


@contextmanager
def build_context(name: str, root: Path = REPOSITORY) -> Iterator[Path]:
    """Copy the files of an image to a temporary folder.

    File modes and times do not depend on the machine, its umask or the time of the clone.

    Raises:
        ImageError: The Dockerfile copies a file that does not exist.
    """
    with TemporaryDirectory(prefix=f"image-{name}-") as temporary:
        folder = Path(temporary)
        for file in content.files(name, root):
            copy = folder / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(0o755 if content.is_executable(file) else 0o644)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
            os.utime(path, (TIMESTAMP, TIMESTAMP))
        yield folder
