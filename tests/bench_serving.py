"""Measure the model server: `make bench-serving`. Prints results without asserts.

Sends large images of every format to a server with an untrained model of 224 pixels, first one after another, then from
several clients at once, which the server predicts in batches. Memory is the sum of the resident memory of the server
and its decoding process, so shared pages count twice. For a refused image, the error is printed.
"""

import io
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from ops.loopback import LOOPBACK
from tests.servers import free_port, wait_for

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = REPOSITORY / "tests" / "images" / "model_server.py"
START_SECONDS = 120
CLIENTS = 8
ROUNDS = 3
SMALL_IMAGES = 200
SMALL_CLIENTS = (1, 16)

MEGAPIXELS_50 = (8000, 6250)
MEGAPIXELS_20 = (5000, 4000)
SOURCES: dict[str, tuple[str, tuple[int, int], str, dict[str, Any]]] = {
    "JPEG": ("RGB", MEGAPIXELS_50, "JPEG", {"subsampling": 0}),
    "JPEG, progressive": ("RGB", MEGAPIXELS_50, "JPEG", {"subsampling": 0, "progressive": True}),
    "JPEG, CMYK": ("CMYK", MEGAPIXELS_50, "JPEG", {}),
    "JPEG, CMYK, progressive": ("CMYK", MEGAPIXELS_50, "JPEG", {"progressive": True}),
    "PNG": ("RGB", MEGAPIXELS_50, "PNG", {"compress_level": 1}),
    "PNG, RGBA": ("RGBA", MEGAPIXELS_50, "PNG", {"compress_level": 1}),
    "PNG, grey with transparency": ("LA", MEGAPIXELS_50, "PNG", {"compress_level": 1}),
    "PNG, 16-bit": ("I;16", MEGAPIXELS_50, "PNG", {"compress_level": 1}),
    "PNG, palette": ("P", MEGAPIXELS_50, "PNG", {"transparency": 0}),
    "GIF, animated": ("P", MEGAPIXELS_50, "GIF", {"save_all": True}),
    "TIFF, multi-page": ("RGBA", MEGAPIXELS_50, "TIFF", {"compression": "tiff_deflate", "save_all": True}),
    "TIFF, one strip": ("RGB", MEGAPIXELS_50, "TIFF", {"compression": "tiff_deflate", "strip_size": 2**30}),
    "WebP, 20 megapixels": ("RGB", MEGAPIXELS_20, "WEBP", {"quality": 50, "method": 0}),
    "WebP, 20 megapixels, RGBA": ("RGBA", MEGAPIXELS_20, "WEBP", {"quality": 50, "method": 0}),
    "WebP": ("RGB", MEGAPIXELS_50, "WEBP", {"quality": 50, "method": 0}),
}


class Peak:
    """The peak memory of a process and its children while the block runs, in MiB."""

    def __init__(self, leader: psutil.Process) -> None:
        self.leader = leader
        self.highest = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure every 10 ms."""
        self.highest = memory(self.leader)
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.01):
                self.highest = max(self.highest, memory(self.leader))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def memory(leader: psutil.Process) -> float:
    """Return the resident memory of a process and its children, in MiB."""
    total = 0
    for process in (leader, *leader.children()):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def files() -> dict[str, bytes]:
    """Return image files of colored squares."""
    squares = np.random.default_rng(0).integers(0, 255, (125, 160, 4), dtype=np.uint8)
    found = {}
    for name, (mode, size, kind, options) in SOURCES.items():
        base = Image.fromarray(squares)
        small = base.convert("L").convert("I;16") if mode == "I;16" else base.convert("RGB").convert(mode)
        large = (base if mode == "RGBA" else small).resize(size, Image.Resampling.NEAREST)
        file = io.BytesIO()
        more = {"append_images": [large.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]} if "save_all" in options else {}
        large.save(file, kind, **options, **more)
        found[name] = file.getvalue()
    return found


def predict(client: httpx.Client, file: bytes) -> tuple[httpx.Response, float]:
    """Send an image; return the response and its duration in seconds."""
    began = time.perf_counter()
    answer = client.post("/predict", files={"image": ("image", file)})
    return answer, time.perf_counter() - began


def main() -> None:
    """Print the machine, then one line per result."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"machine: {os.cpu_count()} cores, {installed:.0f} GiB, Python {platform.python_version()}")
    sources = files()
    port = free_port()
    address = f"http://{LOOPBACK}:{port}"
    folders = os.pathsep.join(str(REPOSITORY / folder) for folder in ("dags", "images/serving"))
    command = [sys.executable, str(PROGRAM), str(port)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": folders}, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"{address}/healthz", START_SECONDS)
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                measure(client, psutil.Process(process.pid), sources)
        finally:
            process.terminate()


def measure(client: httpx.Client, leader: psutil.Process, sources: dict[str, bytes]) -> None:
    """Print the results for each image, all images at once, and small images."""
    print(f"idle: {memory(leader):.0f} MiB")
    peak = Peak(leader)
    for name, file in sources.items():
        with peak.watched():
            answer, seconds = predict(client, file)
        outcome = "" if answer.is_success else answer.json()["detail"]
        print(
            f"{name:28} {len(file) / 1e6:5.1f} MB  {answer.status_code}  {seconds:5.2f} s  "
            f"{peak.highest:5.0f} MiB  {outcome}"
        )
    with peak.watched(), ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(predict, client, file) for file in list(sources.values()) * ROUNDS]
        probes = []
        while not all(one.done() for one in answers):
            began = time.perf_counter()
            client.get("/healthz").raise_for_status()
            probes.append(time.perf_counter() - began)
            time.sleep(0.05)
    statuses = Counter(one.result()[0].status_code for one in answers)
    print(f"{CLIENTS} clients at once, {len(answers)} images: {dict(statuses)}, {peak.highest:5.0f} MiB")
    print(f"/healthz during the load: median {statistics.median(probes):.3f} s, slowest {max(probes):.3f} s")
    small = io.BytesIO()
    Image.new("RGB", (500, 400), "red").save(small, "JPEG")
    for clients in SMALL_CLIENTS:
        with ThreadPoolExecutor(clients) as pool:
            began = time.perf_counter()
            latencies = [one[1] for one in pool.map(lambda _: predict(client, small.getvalue()), range(SMALL_IMAGES))]
        rate = SMALL_IMAGES / (time.perf_counter() - began)
        print(f"small images, {clients} clients: {rate:.0f} per second, median {statistics.median(latencies):.3f} s")
    print(f"idle: {memory(leader):.0f} MiB")


if __name__ == "__main__":
    main()
