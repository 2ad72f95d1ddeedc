"""The build context of an image: exactly the files from which its tag is computed."""

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
