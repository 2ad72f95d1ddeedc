"""The folder that an image is built from: the files that its tag is a digest of, and no others."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.documents import REPOSITORY
from infra.images import content
from ops.images.tools import TIMESTAMP


@contextmanager
def build_context(name: str, root: Path = REPOSITORY) -> Iterator[Path]:
    """Copy the files of an image into a folder that goes afterwards.

    Modes and times are the same on every machine, whatever its umask and whenever it cloned.

    Raises:
        ImageError: The Dockerfile copies what is not there.
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
