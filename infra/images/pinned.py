"""Which images a stack runs: those of the release that it is given, else those of the sources that lie here."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from infra.documents import REPOSITORY
from infra.images import content
from infra.images.errors import ImageError
from infra.images.nodes import nodes_of
from infra.release import Release

# The variable that names the file of the record whose images the program takes.
RELEASE_FILE = "RELEASE_FILE"


def versions(stack: str, folder: Path = REPOSITORY) -> Mapping[str, str]:
    """Return what follows the repository and a colon in the full name of each image that a stack runs.

    It is the tag of the image's content; with a record in RELEASE_FILE the tag and the digest that this names.

    Raises:
        ImageError: The record cannot be read or is not this stack's, or a Dockerfile copies what is not there.
    """
    if file := os.environ.get(RELEASE_FILE):
        return pinned(read_release(Path(file)), stack, content.names())
    nodes = nodes_of(stack, folder)
    return {name: content.tag(name, nodes=nodes) for name in content.names()}


def pinned(release: Release, stack: str, names: Collection[str]) -> Mapping[str, str]:
    """Return the tag and the digest of each of a release's images.

    Raises:
        ImageError: It is another stack's release, or one of other images than these.
    """
    if release.stack != stack:
        raise ImageError(f"the release in {RELEASE_FILE} is one of {release.stack}, not of {stack}: give it its own")
    if set(release.images) != set(names):
        raise ImageError(
            f"the release of {stack} has the images {', '.join(sorted(release.images))}, and this commit builds "
            f"{', '.join(sorted(names))}: check out {release.commit[:12]}, the release's own commit"
        )
    return {name: f"{image.tag}@{image.digest}" for name, image in release.images.items()}


def read_release(file: Path) -> Release:
    """Read the record of a release.

    Raises:
        ImageError: There is none in the file.
    """
    try:
        return Release.model_validate(yaml.safe_load(file.read_text()))
    except OSError as error:
        reason = str(error.strerror)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
    raise ImageError(
        f"{RELEASE_FILE} names {file}, which is no record of a release ({reason}): let `make deploy` set it, or take "
        "it out of the environment"
    )
