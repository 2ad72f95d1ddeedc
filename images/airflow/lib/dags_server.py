"""Serve the DAGs of the commit that git-sync has checked out: `python -m dags_server <link> <folder>`.

It runs next to the dag-processor, on the same checkout, so that tasks find every DAG that the dag-processor has parsed.
"""

import io
import os
import sys
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

# As in infra/airflow_names.py.
PORT = 8800


def application(link: Path, folder: str) -> Starlette:
    """Return the server of a folder of the work tree that `link` points to."""
    packed = lru_cache(maxsize=1)(archive)

    def dags(_request: Request) -> Response:
        work_tree = link.resolve()
        if not (work_tree / folder).is_dir():
            return PlainTextResponse(f"commit {work_tree.name} has no folder {folder}", 404)
        return Response(packed(work_tree, folder), media_type="application/gzip")

    def health(_request: Request) -> Response:
        return Response(status_code=200 if link.exists() else 503)

    return Starlette(routes=[Route("/dags.tar.gz", dags), Route("/health", health)])


def archive(work_tree: Path, folder: str) -> bytes:
    """Return a tar archive of a work tree's folder; its members begin with the name of the work tree, the commit."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1, dereference=True) as tar:
        for path in (work_tree / folder, *files(work_tree / folder, work_tree)):
            tar.add(path, path.relative_to(work_tree.parent), recursive=False)
    return content.getvalue()


def files(folder: Path, work_tree: Path) -> Iterator[Path]:
    """Yield the files in a folder; links are followed within the work tree, and left out if they lead out of it."""

    def is_inside(path: Path) -> bool:
        target = path.resolve()
        is_loop = path.is_symlink() and path.parent.resolve().is_relative_to(target)
        return target.is_relative_to(work_tree) and not is_loop

    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if is_inside(Path(parent, name))]
        yield from (path for name in names if (path := Path(parent, name)).is_file() and is_inside(path))


if __name__ == "__main__":
    # Other pods reach it under the address of this pod.
    uvicorn.run(application(Path(sys.argv[1]), sys.argv[2]), host="0.0.0.0", port=PORT, log_level="warning")  # noqa: S104
