"""The images that one run of `make images` built and pushed. Only these may be signed in the same run."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from infra.images.errors import ImageError
from infra.release import ReleasedImage

IMAGES = TypeAdapter(dict[str, ReleasedImage])


def write_built(file: Path, images: Mapping[str, ReleasedImage]) -> None:
    """Write images by name to a file.

    Raises:
        ImageError: The file cannot be written.
    """
    try:
        file.write_bytes(IMAGES.dump_json(dict(images), indent=2))
    except OSError as error:
        raise ImageError(
            f"BUILT={file} cannot be written ({error.strerror}): set BUILT to a file in another folder"
        ) from error


def read_built(file: Path) -> Mapping[str, ReleasedImage]:
    """Return the images in a file, by name.

    Raises:
        ImageError: The file was not written by `make images`.
    """
    try:
        return IMAGES.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error.strerror) if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise ImageError(
            f"BUILT={file} cannot be read ({reason}): set BUILT to the file that `make images BUILT=<file>` wrote in "
            "this run"
        ) from error
