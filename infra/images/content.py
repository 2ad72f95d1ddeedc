"""The content of an image, read from its Dockerfile, and the tag derived from it."""

import re
import shlex
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from infra.documents import REPOSITORY
from infra.images.errors import ImageError
from infra.images.nodes import LIKE_THIS_MACHINE, Nodes

# The repository of images that are loaded onto nodes: kubelets never pull this name from a registry.
ON_NODES = "localhost/airflow-on-kubernetes"

# The repositories for images of branches: these images are not signed, and no stack runs them.
PREVIEWS = "previews"

DIGITS = 16
CONTINUED_LINE = re.compile(r"\\\n\s*")
# `ARG AIRFLOW_IMAGE` in a Dockerfile declares the image of the folder `airflow` as its base.
BASE_ARGUMENT = re.compile(r"ARG ([A-Z]+)_IMAGE$")


def names(root: Path = REPOSITORY) -> list[str]:
    """Return the names of the images that the repository builds; each comes after its base."""
    found: list[str] = []
    for name in sorted(path.parent.name for path in root.glob("images/*/Dockerfile")):
        found += [one for one in (*bases(name, root).values(), name) if one not in found]
    return found


def in_previews(name: str) -> str:
    """Return the path of an image in the repositories of preview environments."""
    return f"{PREVIEWS}/{name}"


def bases(name: str, root: Path = REPOSITORY) -> Mapping[str, str]:
    """Return the bases of an image that this repository builds, by the build argument that names them."""
    found = filter(None, map(BASE_ARGUMENT.match, _instructions(name, root)))
    arguments = {f"{one[1]}_IMAGE": one[1].lower() for one in found}
    return {argument: base for argument, base in arguments.items() if _dockerfile(base, root).is_file()}


def files(name: str, root: Path = REPOSITORY) -> list[Path]:
    """Return the files that an image is built from: its Dockerfile first, the others sorted by path.

    Raises:
        ImageError: The Dockerfile copies a missing file.
    """
    return [_dockerfile(name, root), *sorted(set(_copied(name, root)))]


def tag(name: str, root: Path = REPOSITORY, nodes: Nodes = LIKE_THIS_MACHINE) -> str:
    """Return the tag of an image: a digest of its files, its bases and the build arguments for the nodes.

    The tag is the same on every machine and in every clone. The requirements pin packages by hash and the Dockerfiles
    pin bases by digest; only PyTorch from its own index is pinned by version.

    Raises:
        ImageError: The Dockerfile copies a missing file.
    """
    digest = sha256()
    for file in files(name, root):
        mode = "executable" if is_executable(file) else "file"
        digest.update(f"{mode} {file.relative_to(root).as_posix()} {sha256(file.read_bytes()).hexdigest()}\n".encode())
    for argument, base in bases(name, root).items():
        digest.update(f"{argument} {tag(base, root, nodes)}\n".encode())
    digest.update(f"{nodes.architecture} {sorted(nodes.arguments(name).items())}\n".encode())
    return digest.hexdigest()[:DIGITS]


def is_executable(file: Path) -> bool:
    """Return whether a file's owner may execute it: the only part of a file's mode that Git tracks."""
    return bool(file.stat().st_mode & 0o100)


def _dockerfile(name: str, root: Path) -> Path:
    return root / "images" / name / "Dockerfile"


def _instructions(name: str, root: Path) -> list[str]:
    return CONTINUED_LINE.sub(" ", _dockerfile(name, root).read_text()).splitlines()


def _copied(name: str, root: Path) -> Iterator[Path]:
    for line in _instructions(name, root):
        # `COPY --from` copies from another image.
        if not line.startswith("COPY ") or " --from=" in line:
            continue
        *sources, _target = [word for word in shlex.split(line)[1:] if not word.startswith("--")]
        for source in sources:
            path = root / source
            if not path.exists():
                raise ImageError(f"images/{name}/Dockerfile copies {source}, which does not exist: correct the path")
            yield from _files_below(path) if path.is_dir() else [path]


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path
