"""The images of the image classifier: scikit-learn's handwritten digits, or a folder that the user names."""

import io
from collections.abc import Iterator
from pathlib import Path

from infra.errors import OperationError
from ops.laptop import object_store, uploads
from ops.laptop.uploads import Destination, Upload
from ops.paths import printable

DIGITS_PREFIX = "images/digits/"
QUARANTINE = "quarantine/"


def digits() -> Iterator[Upload]:
    """Yield scikit-learn's 1,797 digits as 8x8 PNG files in the folders 0 to 9."""
    import numpy
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for index, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        buffer = io.BytesIO()
        # Each value of the data set counts the inked pixels, 0 to 16, of a 4x4 block of the scan.
        Image.fromarray((pixels * 255 / 16).round().astype(numpy.uint8)).save(buffer, "PNG")
        yield Upload(f"{label}/{index:04d}.png", buffer.getvalue)


def destination(path: Path | None) -> Destination:
    """Return where the images of a folder are stored, or the digits."""
    prefix = f"images/{uploads.folder_name(path)}/" if path else DIGITS_PREFIX
    return Destination(object_store.BUCKETS["data"], prefix, QUARANTINE)


def folder(path: Path) -> list[Upload]:
    """Return the files in the class folders of `path`.

    Raises:
        OperationError: `path` is not a readable folder, or fewer than two of its subfolders contain files.
    """
    try:
        children = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise OperationError(
            f"IMAGES={printable(path)} is not a readable folder ({error.strerror}): set a folder that has one "
            "subfolder of images per class"
        ) from error
    found = uploads.in_folders(path, children, destination(path))
    classes = {file.name.partition("/")[0] for file in found}
    if len(classes) < 2:
        raise OperationError(
            f"IMAGES={printable(path)} has {len(classes)} subfolder(s) with files, and at least 2 are required: "
            "put the images of each class into a subfolder named after the class"
        )
    return found
