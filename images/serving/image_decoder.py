"""Image files are decoded in a process by themselves: an image that takes too long is given up by killing that process,
and one that needs more memory than its header says gets none, so the model server goes on.
"""

import os
import resource
import shutil
import signal
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import numpy as np
from anyio import BrokenWorkerProcess, fail_after, to_process, to_thread

from image_classifier.images import MAX_BYTES, MAX_DECODING_BYTES, UnreadableImageError, to_array

# The slowest image within the limits takes about 3 s on one core.
DECODING_SECONDS = 10
START_SECONDS = 30

# Next to the picture: its file, twice if that has metadata to leave out, and a part of it that is being converted.
WORKING_BYTES = 2 * MAX_BYTES + 56 * 1024 * 1024

TOO_SLOW = f"the image takes longer than {DECODING_SECONDS} s to decode"


class DecoderStoppedError(Exception):
    """The decoding process ended; the next image starts another."""


async def start() -> None:
    """Start the decoding process before the first image comes."""
    # Freed memory goes back at once: without this glibc raises the size from which it does with every large picture.
    # https://man7.org/linux/man-pages/man3/mallopt.3.html
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(128 * 1024))
    with fail_after(START_SECONDS):
        await to_process.run_sync(_prepare)


async def decode(file: BinaryIO, image_size: int) -> np.ndarray:
    """Image file to uint8 [image_size, image_size, 3]. Raises UnreadableImageError and DecoderStoppedError.

    The file goes to the decoding process on disk: this process would keep the memory of files that it had read.
    """
    try:
        with NamedTemporaryFile() as copy, fail_after(DECODING_SECONDS):
            await to_thread.run_sync(shutil.copyfileobj, file, copy)
            copy.flush()
            return await to_process.run_sync(_decode, Path(copy.name), image_size, cancellable=True)
    except TimeoutError as error:
        raise UnreadableImageError(TOO_SLOW) from error
    except BrokenWorkerProcess as error:
        raise DecoderStoppedError from error


def _decode(file: Path, image_size: int) -> np.ndarray:
    _prepare()
    return to_array(file.read_bytes(), image_size)


@cache
def _prepare() -> None:
    """Limit this process' memory, and leave signals for the whole group to the server, which finishes its requests."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    statistics = Path("/proc/self/statm")  # https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html
    if statistics.exists():  # on Linux alone is memory that was not yet written to left uncounted by its size
        held = int(statistics.read_text().split()[5]) * resource.getpagesize()
        limit = held + MAX_DECODING_BYTES + WORKING_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
