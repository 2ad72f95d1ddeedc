"""Decode image files in a separate process.

An image that takes too long is stopped by killing the process, and one that needs more memory than its header says gets
none; the model server keeps running in both cases.

`python -m image_classifier.image_decoder` is that process. It reads a header and a file, and answers with a header and
the decoded image or the reason why the file is unreadable, until its input ends.
"""

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, cast

import numpy as np

from image_classifier.images import MAX_BYTES, MAX_DECODING_BYTES, UnreadableImageError, to_array

# The slowest image within the limits takes about 3 s on one core.
DECODING_SECONDS = 10

# In addition to the image: its file, twice if metadata is removed from it, and the tile that is being converted.
WORKING_BYTES = 2 * MAX_BYTES + 56 * 1024 * 1024

TOO_SLOW = f"the image takes longer than {DECODING_SECONDS} s to decode"

REQUEST = struct.Struct(">QI")  # the size of the file, and that of the image
ANSWER = struct.Struct(">?Q")  # whether the file was decoded, and the size of what follows


class DecoderStoppedError(Exception):
    """The decoding process ended; the next image starts a new one."""


class ImageDecoder:
    """A process that decodes one image at a time."""

    def __init__(self) -> None:
        self._process = _start()

    def decode(self, file: bytes, image_size: int) -> np.ndarray:
        """Decode an image file to uint8 [image_size, image_size, 3].

        Raises:
            UnreadableImageError: The file cannot be decoded within the limits.
            DecoderStoppedError: The decoding process ended.
        """
        if self._process.poll() is not None:
            self._process = _start()
        deadline = time.monotonic() + DECODING_SECONDS
        timer = threading.Timer(DECODING_SECONDS, self._process.kill)
        timer.start()
        try:
            decoded, content = self._exchange(file, image_size)
        except (OSError, EOFError) as error:
            _end(self._process)
            if time.monotonic() >= deadline:
                raise UnreadableImageError(TOO_SLOW) from error
            raise DecoderStoppedError from error
        finally:
            timer.cancel()
        if not decoded:
            raise UnreadableImageError(content.decode())
        return np.frombuffer(content, np.uint8).reshape(image_size, image_size, 3)

    def _exchange(self, file: bytes, image_size: int) -> tuple[bool, bytes]:
        requests, answers = cast("tuple[IO[bytes], IO[bytes]]", (self._process.stdin, self._process.stdout))
        requests.write(REQUEST.pack(len(file), image_size))
        requests.write(file)
        requests.flush()
        decoded, size = ANSWER.unpack(_read(answers, ANSWER.size))
        return decoded, _read(answers, size)


def _start() -> subprocess.Popen[bytes]:
    variables = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # a model version brings its own code
        # Return freed memory to the system at once: otherwise glibc raises its threshold for that with every large
        # image. https://man7.org/linux/man-pages/man3/mallopt.3.html
        "MALLOC_MMAP_THRESHOLD_": str(128 * 1024),
    }
    command = [sys.executable, "-m", "image_classifier.image_decoder"]
    return subprocess.Popen(command, env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError
    return content


def main() -> None:
    """Decode files from standard input until it ends."""
    _limit()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(REQUEST.size):
        size, image_size = REQUEST.unpack(header)
        decoded, content = _decoded(requests.read(size), image_size)
        answers.write(ANSWER.pack(decoded, len(content)) + content)
        answers.flush()


def _decoded(file: bytes, image_size: int) -> tuple[bool, bytes]:
    try:
        return True, to_array(file, image_size).tobytes()
    except UnreadableImageError as error:
        return False, str(error).encode()


def _limit() -> None:
    """Limit this process' memory and ignore signals to the process group, so that the server finishes its requests."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    statistics = Path("/proc/self/statm")  # https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html
    if statistics.exists():  # only Linux reports the size of memory that is not yet written
        held = int(statistics.read_text().split()[5]) * resource.getpagesize()
        limit = held + MAX_DECODING_BYTES + WORKING_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
