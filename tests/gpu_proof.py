"""Prove the training of the image classifier on a GPU: `make gpu-proof`. Prints each result; fails if one is wrong.

It needs a machine with a CUDA GPU, and no services. The memory checks hold the process to 16 GiB, the smallest GPU of
the instance families that the stacks use.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import boto3
import torch
from moto.server import ThreadedMotoServer
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional
from torchvision.models import ResNet

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dags"))

from image_classifier import checkpoints, networks, training
from image_classifier.evaluation import accuracy
from image_classifier.model import Classifier
from image_classifier.shards import Shards
from ml_common import workers
from ml_common.device import Device, best_device, cpu, usable_cores
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket
from ml_common.team import ALONE, Team

GIB = 2**30
GPU_MEMORY_GIB = 16
ENOUGH_ACCURACY = 0.97
# bfloat16 has 8 bits of precision.
TOLERANCE = 0.03
PHOTO_SIDE = 224
# A shard as the DAG makes them, so often that an epoch has enough images for the largest batches.
PHOTOS_IN_SHARD, SHARDS = 1706, 7
LARGE_BATCH = 512
CPU_PHOTOS = 64

Result = TypeVar("Result")


def main() -> None:
    """Run the checks."""
    if not torch.cuda.is_available():
        sys.exit(
            "error: this machine has no GPU that PyTorch can use: run `make gpu-proof` on one that `nvidia-smi` lists"
        )
    device = best_device()
    total = torch.cuda.get_device_properties(0).total_memory
    say(f"{device.description}, {total / GIB:.0f} GiB, torch {torch.__version__}, CUDA {torch.version.cuda}")
    torch.cuda.set_per_process_memory_fraction(min(1, GPU_MEMORY_GIB * GIB / total))
    learns(device)
    for architecture in networks.TRAINING_BYTES_PER_PIXEL:
        fits(architecture, device)
    explains_missing_memory(device, total)
    trains_together(torch.cuda.device_count())


def learns(device: Device) -> None:
    """Check that a network learns on the GPU, and that its weights give the same answers on a CPU."""
    torch.manual_seed(0)
    (network, _), seconds = timed(lambda: checkpoints._train("resnet18"))
    say(f"the base checkpoint of resnet18: {seconds:.1f} s")
    images, labels = digits()
    held_out = torch.arange(len(images)) % 5 == 0
    train = shards(images[~held_out], labels[~held_out])
    network.fc = torch.nn.Linear(network.fc.in_features, 10)
    _, seconds = timed(lambda: tune(network, "resnet18", train, device, epochs=8, batch_size=64))
    classes = tuple(map(str, range(10)))
    classifier = Classifier(network, "resnet18", classes, images.shape[-1]).to(device)
    reached = accuracy(classifier, shards(images[held_out], labels[held_out]), classes)
    check(
        reached >= ENOUGH_ACCURACY, f"fine-tuned on {int((~held_out).sum())} digits in {seconds:.1f} s: {reached:.4f}"
    )
    on_gpu = classifier.probabilities(images[held_out])
    on_cpu = classifier.to(cpu(usable_cores())).probabilities(images[held_out])
    difference = float((on_gpu - on_cpu).abs().max())
    check(difference <= TOLERANCE, f"the CPU serves what the GPU trained: probabilities differ by {difference:.1e}")


def fits(architecture: str, device: Device) -> None:
    """Check that training on large photos fits into the memory of a small GPU; print its speed and a CPU's."""
    images = torch.randint(0, 256, (PHOTOS_IN_SHARD, 3, PHOTO_SIDE, PHOTO_SIDE), dtype=torch.uint8)
    labels = torch.arange(PHOTOS_IN_SHARD) % 10
    photos, few = shards(images, labels, SHARDS), shards(images[:CPU_PHOTOS], labels[:CPU_PHOTOS])
    network = networks.create(architecture, 10)
    tune(network, architecture, photos, device, epochs=1, batch_size=LARGE_BATCH)  # the first steps choose algorithms
    torch.cuda.reset_peak_memory_stats()
    _, seconds = timed(lambda: tune(network, architecture, photos, device, epochs=1, batch_size=LARGE_BATCH))
    used = torch.cuda.max_memory_reserved() / GIB
    on_cpu = networks.create(architecture, 10)
    processor = cpu(usable_cores())
    _, cpu_seconds = timed(lambda: tune(on_cpu, architecture, few, processor, epochs=1, batch_size=CPU_PHOTOS))
    speed, cpu_speed = SHARDS * PHOTOS_IN_SHARD / seconds, CPU_PHOTOS / cpu_seconds
    check(
        used <= GPU_MEMORY_GIB,
        f"{architecture}, {LARGE_BATCH} photos of {PHOTO_SIDE} pixels at once: {used:.1f} GiB, {speed:.0f} images/s "
        f"({cpu_speed:.0f} on {processor.description})",
    )
    torch.cuda.empty_cache()


def explains_missing_memory(device: Device, total: int) -> None:
    """Check that training on a GPU that is too small fails with a sentence."""
    torch.cuda.set_per_process_memory_fraction(GIB / total)
    images = torch.zeros((PHOTOS_IN_SHARD, 3, PHOTO_SIDE, PHOTO_SIDE), dtype=torch.uint8)
    photos = shards(images, torch.arange(PHOTOS_IN_SHARD) % 10, SHARDS)
    try:
        tune(networks.create("resnet50", 10), "resnet50", photos, device, epochs=1, batch_size=LARGE_BATCH)
    except PermanentError as error:
        say(f"passed: with 1 GiB: {error}")
    else:
        sys.exit("failed: resnet50 trains on large photos with 1 GiB")


def trains_together(gpus: int) -> None:
    """Check that all GPUs of this machine train a network that learns."""
    if gpus == 1:
        say("skipped: training with several GPUs, because this machine has one")
        return
    with TemporaryDirectory() as folder, local_bucket() as bucket:
        workers.run(partial(train_part, Path(folder)), workers.Worker(0, 1, gpus), workers.Meeting(bucket, "proof/"))
        result = json.loads(Path(folder, "result").read_text())
    check(
        result["accuracy"] >= ENOUGH_ACCURACY,
        f"{gpus} GPUs together: accuracy {result['accuracy']:.4f}, {result['images_per_second']:.0f} images/s",
    )


def train_part(folder: Path, team: Team) -> None:
    """Fine-tune on digits as one process of a team; the first one stores the result in the folder."""
    torch.manual_seed(0)
    device = best_device(team.local_rank, team.local_size)
    images, labels = digits()
    held_out = torch.arange(len(images)) % 5 == 0
    network = networks.create("resnet18", 10)
    mine = slice(team.rank, None, team.size)
    part = shards(images[~held_out][mine], labels[~held_out][mine])
    history = tune(network, "resnet18", part, device, epochs=30, batch_size=64, team=team)
    if team.rank == 0:
        classes = tuple(map(str, range(10)))
        classifier = Classifier(network, "resnet18", classes, images.shape[-1])
        reached = accuracy(classifier, shards(images[held_out], labels[held_out]), classes)
        result = {"accuracy": reached, "images_per_second": sum(history[-1].images_per_second)}
        (folder / "result").write_text(json.dumps(result))


@contextmanager
def local_bucket() -> Iterator[Bucket]:
    """Return a bucket in this process."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        boto3.client("s3").create_bucket(Bucket="proof")
        yield Bucket("proof")
    finally:
        server.stop()


def tune(
    network: ResNet, architecture: str, data: Shards, device: Device, epochs: int, batch_size: int, team: Team = ALONE
) -> list[training.Epoch]:
    """Fine-tune as the DAG does."""
    return training.fine_tune(
        network,
        data,
        epochs=epochs,
        learning_rate=1e-3,
        batch_size=batch_size,
        bytes_per_pixel=networks.TRAINING_BYTES_PER_PIXEL[architecture],
        device=device,
        team=team,
    )


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits as the DAG's tensors: images, uint8 [N, 3, 32, 32], and labels, int64 [N]."""
    found = load_digits()
    grey = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16 * 255
    images = functional.interpolate(grey, size=32, mode="bilinear").to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return images, torch.tensor(found.target, dtype=torch.int64)


def shards(images: Tensor, labels: Tensor, count: int = 1) -> Shards:
    """Return the images as a shard, or as several equal ones."""
    return Shards([len(images)] * count, lambda _: (images, labels))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return a result and the seconds until the GPU has computed it."""
    started = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return result, time.perf_counter() - started


def check(correct: bool, what: str) -> None:
    """Print a result, and stop if it is wrong."""
    if not correct:
        sys.exit(f"failed: {what}")
    say(f"passed: {what}")


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
