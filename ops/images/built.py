"""What one run of `make images` built and pushed: only that may be signed in the same run."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from infra.images.errors import ImageError
from infra.release import ReleasedImage

IMAGES = TypeAdapter(dict[str, ReleasedImage])


def write_built(file: Path, images: Mapping[str, ReleasedImage]) -> None:
    """Write images, by their names, into a file.

    Raises:
        ImageError: It cannot be written.
    """
    try:
        file.write_bytes(IMAGES.dump_json(dict(images), indent=2))
    except OSError as error:
        raise ImageError(f"BUILT={file} cannot be written ({error.strerror}): name a file in another folder") from error


def read_built(file: Path) -> Mapping[str, ReleasedImage]:
    """Return the images in a file, by their names.

    Raises:
        ImageError: It is not a file that `make images` wrote.
    """
    try:
        return IMAGES.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error.strerror) if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise ImageError(
            f"BUILT={file} cannot be read ({reason}): name the file that `make images BUILT=<file>` wrote in this run"
        ) from error
