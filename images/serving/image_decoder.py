"""Decode image files in a separate process.

An image that takes too long is stopped by killing the process, and one that needs more memory than its header says gets
none; the model server keeps running in both cases.
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

# In addition to the image: its file, twice if metadata is removed from it, and the tile that is being converted.
WORKING_BYTES = 2 * MAX_BYTES + 56 * 1024 * 1024

TOO_SLOW = f"the image takes longer than {DECODING_SECONDS} s to decode"


class DecoderStoppedError(Exception):
    """The decoding process ended; the next image starts a new one."""


async def start() -> None:
    """Start the decoding process, so that the first image need not wait for it."""
    # Return freed memory to the system at once: otherwise glibc raises its threshold for that with every large image.
    # https://man7.org/linux/man-pages/man3/mallopt.3.html
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(128 * 1024))
    with fail_after(START_SECONDS):
        await to_process.run_sync(_prepare)


async def decode(file: BinaryIO, image_size: int) -> np.ndarray:
    """Decode an image file to uint8 [image_size, image_size, 3].

    The decoding process gets the file on disk, because this process would keep the memory of files that it reads.

    Raises:
        UnreadableImageError: The file cannot be decoded within the limits.
        DecoderStoppedError: The decoding process ended.
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
    """Limit this process' memory and ignore signals to the process group, so that the server finishes its requests."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    statistics = Path("/proc/self/statm")  # https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html
    if statistics.exists():  # only Linux reports the size of memory that is not yet written
        held = int(statistics.read_text().split()[5]) * resource.getpagesize()
        limit = held + MAX_DECODING_BYTES + WORKING_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
