"""The images that a stack runs: those of its release, or else those built from this working tree."""

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

# The variable that names the file of the release record whose images the program deploys.
RELEASE_FILE = "RELEASE_FILE"


def versions(stack: str, folder: Path = REPOSITORY) -> Mapping[str, str]:
    """Return the part after `repository:` in the full name of each image that a stack runs.

    It is the tag of the image's content; with a release record in RELEASE_FILE, it is the record's tag and digest.

    Raises:
        ImageError: The record is invalid or belongs to another stack, or a Dockerfile copies a missing file.
    """
    if file := os.environ.get(RELEASE_FILE):
        return pinned(read_release(Path(file)), stack, content.names())
    nodes = nodes_of(stack, folder)
    return {name: content.tag(name, nodes=nodes) for name in content.names()}


def pinned(release: Release, stack: str, names: Collection[str]) -> Mapping[str, str]:
    """Return the tag and the digest of each image of a release.

    Raises:
        ImageError: The release belongs to another stack, or has other images than `names`.
    """
    if release.stack != stack:
        raise ImageError(f"the release in {RELEASE_FILE} belongs to {release.stack}, not to {stack}: use its own")
    if set(release.images) != set(names):
        raise ImageError(
            f"the release of {stack} has the images {', '.join(sorted(release.images))}, but this commit builds "
            f"{', '.join(sorted(names))}: check out {release.commit[:12]}, the commit of the release"
        )
    return {name: f"{image.tag}@{image.digest}" for name, image in release.images.items()}


def read_release(file: Path) -> Release:
    """Read the record of a release.

    Raises:
        ImageError: The file is not a release record.
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
        f"{RELEASE_FILE} names {file}, which is not a release record ({reason}): let `make deploy` set it, or unset it"
    )
