"""Measure a training by two workers next to one worker: `make bench-workers`. Prints results without asserts.

They train a ResNet on random images, each process with one thread of a CPU, as two pods with one core each.
"""

import statistics
import sys
import tempfile
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from infra.documents import REPOSITORY
from tests import bench_home

sys.path.insert(0, str(REPOSITORY / "dags"))

from image_classifier import networks, shards, training
from ml_common import device, workers
from ml_common.object_store import artifacts_bucket
from ml_common.team import Team

ROUNDS = 5
IMAGES, BATCH_SIZE = 512, 64
SIDES = (32, 96)


def main() -> None:
    """Print the seconds of an epoch, medians of interleaved rounds."""
    bench_home.print_machine()
    with bench_home.running():
        for side in SIDES:
            measure(side)


def measure(side: int) -> None:
    """Print the result for images of a size in pixels."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count, measured in seconds.items():
            measured.append(epoch(count, side))
    one, two = (statistics.median(measured) for measured in seconds.values())
    print(
        f"resnet18, {IMAGES} images of {side} pixels, batches of {BATCH_SIZE}: one worker {one:.2f} s, two workers "
        f"{two:.2f} s, {one / two:.2f} times as fast",
        flush=True,
    )


def epoch(count: int, side: int) -> float:
    """Return the seconds of the second of two epochs by this number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            get_context("spawn").Process(target=work, args=(Path(folder), number, count, side))
            for number in range(count)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
        return float(Path(folder, "seconds").read_text())


def work(folder: Path, number: int, count: int, side: int) -> None:
    """Train as one worker."""
    workers.run(
        partial(train, folder, side),
        workers.Worker(number, count, 1),
        workers.Meeting(artifacts_bucket(), f"{folder.name}/"),
    )


def train(folder: Path, side: int, team: Team) -> None:
    """Train as one process."""
    torch.manual_seed(0)
    share = IMAGES // team.size
    images = torch.randint(0, 256, (share, 3, side, side), dtype=torch.uint8)
    history = training.fine_tune(
        networks.create("resnet18", 10),
        shards.Shards([share], lambda _: (images, torch.arange(share) % 10)),
        epochs=2,
        learning_rate=0.001,
        batch_size=BATCH_SIZE,
        bytes_per_pixel=networks.TRAINING_BYTES_PER_PIXEL["resnet18"],
        device=device.cpu(threads=1),
        team=team,
    )
    if team.rank == 0:
        (folder / "seconds").write_text(str(history[-1].seconds))


if __name__ == "__main__":
    main()
