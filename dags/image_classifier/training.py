"""One training loop for the base checkpoint and for fine-tuning."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from image_classifier.augmentation import Geometry
from image_classifier.model import normalise
from image_classifier.saved_training import Part, SavedTraining
from image_classifier.shards import Shards, Tensors
from ml_common.device import Device
from ml_common.errors import PermanentError
from ml_common.team import ALONE, Team

log = logging.getLogger(__name__)

WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
WARM_UP_FRACTION = 0.2
SHORTEST_SCHEDULE = 10  # steps; torch divides by the length of a warm-up, less one
STEPS_PER_EPOCH = 20
SMALLEST_BATCH = 8
FINE_TUNING_GEOMETRY = Geometry(degrees=10, scale=0.1, shift=0.06)

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Epoch:
    """Result of one pass over the training images.

    Attributes:
        number: From 1.
        loss: In nats.
        accuracy: On the augmented batches.
        seconds: Of the process of rank 0.
        finished_at_ms: Time since 1970.
        images_per_second: Images of each process' part, by rank.
    """

    number: int
    loss: float
    accuracy: float
    seconds: float
    finished_at_ms: int
    images_per_second: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def fit(
    network: nn.Module,
    batches: Callable[[], Iterator[Batch]],
    *,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
    batch_sizes: Sequence[int],
    epochs: int,
    learning_rate: float,
    bytes_per_pixel: int,
    device: Device,
    saved: SavedTraining | None = None,
    team: Team = ALONE,
) -> list[Epoch]:
    """Train `network` in place by AdamW with a one-cycle schedule.

    Each process of a team computes the gradients of its part of a batch. A part goes through the network in as many
    passes as the device's memory requires. All gradients are added to one step. Batch normalisation sees one pass at a
    time.

    Args:
        network: Takes normalised images, float [N, 3, S, S]; returns logits, float [N, class count].
        batches: Yields one epoch of this process' parts of batches on `device`: images [N, 3, S, S], labels int64 [N].
        prepare: Turns images of a batch into float [N, 3, S, S] in 0..1.
        batch_sizes: Number of images in each batch of an epoch, of all processes together.
        epochs: Number of passes over the training images.
        learning_rate: Peak of the schedule.
        bytes_per_pixel: Memory that the network takes for each pixel of its input until the gradients are computed.
        device: Where to train.
        saved: Where to keep the state between epochs, and where to continue from.
        team: The processes that train the network together.

    Returns:
        The result of each epoch, for all processes together.

    Raises:
        PermanentError: The GPU has too little memory.
    """
    network.to(device.torch_device, memory_format=device.memory_format)  # type: ignore[call-overload]
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    total_steps = max(epochs * len(batch_sizes), SHORTEST_SCHEDULE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=learning_rate, total_steps=total_steps, pct_start=WARM_UP_FRACTION
    )
    parts: dict[str, Part] = {"network": network, "optimiser": optimiser, "schedule": schedule}
    history = [Epoch(**epoch) for epoch in saved.restore(parts, team.rank)] if saved else []
    replica = team.replicate(network)
    for number in range(len(history) + 1, epochs + 1):
        started = time.perf_counter()
        loss_sum, correct, count = 0.0, 0, 0
        with _memory_errors_explained():
            for (images, labels), batch_size in zip(batches(), batch_sizes, strict=True):
                optimiser.zero_grad(set_to_none=True)
                passes = device.passes(images, bytes_per_pixel)
                parts_of_batch = zip(images.tensor_split(passes), labels.tensor_split(passes), strict=True)
                for number_of_pass, (part, truth) in enumerate(parts_of_batch, start=1):
                    pixels = normalise(prepare(part)).contiguous(memory_format=device.memory_format)
                    with team.exchange(replica, when=number_of_pass == passes):
                        with device.autocast():
                            logits = replica(pixels)
                            loss = functional.cross_entropy(logits, truth, label_smoothing=LABEL_SMOOTHING)
                        # The exchange divides by the size of the team.
                        (loss * (len(truth) * team.size / batch_size)).backward()  # type: ignore[no-untyped-call]
                    loss_sum += loss.item() * len(truth)
                    correct += int((logits.argmax(1) == truth).sum())
                optimiser.step()
                schedule.step()
                count += len(labels)
        seconds = time.perf_counter() - started
        team.average_statistics(network)
        speeds = torch.cat(team.gather(torch.tensor([count / seconds]))).tolist()
        loss_sum, correct, count = team.total(torch.tensor([loss_sum, correct, count], dtype=torch.float64)).tolist()
        epoch = Epoch(number, loss_sum / count, correct / count, seconds, int(time.time() * 1000), speeds)
        log.info(
            "epoch %d/%d: loss %.4f, training accuracy %.4f, %.1f s",
            number, epochs, epoch.loss, epoch.accuracy, epoch.seconds,
        )  # fmt: skip
        history.append(epoch)
        if saved and number < epochs:
            random = team.gather(torch.get_rng_state())
            if team.rank == 0:
                saved.save(parts, [each.as_dict() for each in history], random)
    network.eval()
    return history


@contextmanager
def _memory_errors_explained() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise PermanentError(
            f"The GPU has too little memory ({reason}): set the Param `image_size` or `batch_size` to a smaller value, "
            "or `architecture` to a smaller network."
        ) from error


def fine_tune(
    network: nn.Module,
    shards: Shards,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    bytes_per_pixel: int,
    device: Device,
    saved: SavedTraining | None = None,
    team: Team = ALONE,
) -> list[Epoch]:
    """Train `network` in place on uint8 images [N, 3, S, S] and int64 labels [N], shuffled and augmented at random.

    The random numbers come from torch's global generator: the same seed there repeats a training exactly on a CPU.
    Each process of a team has its own images and random numbers; `batch_size` is that of all processes together.

    Raises:
        PermanentError: There are too few images for the team.
    """
    counts = [int(count) for count in team.gather(torch.tensor([sum(shards.counts)]))]
    sizes_by_rank = _batch_sizes(counts, batch_size)

    def batches() -> Iterator[Batch]:
        order = torch.randperm(len(shards.counts)).tolist()
        on_device = ((device.receive(images), device.receive(labels)) for images, labels in shards.read(order))
        return _shuffled(on_device, sizes_by_rank[team.rank])

    return fit(
        network,
        batches,
        prepare=lambda images: FINE_TUNING_GEOMETRY.apply(images.float() / 255),
        batch_sizes=[sum(sizes) for sizes in zip(*sizes_by_rank, strict=True)],
        epochs=epochs,
        learning_rate=learning_rate,
        bytes_per_pixel=bytes_per_pixel,
        device=device,
        saved=saved,
        team=team,
    )


def _shuffled(shards: Iterable[Tensors], batch_sizes: Iterable[int]) -> Iterator[Batch]:
    """Shuffle each shard and cut it into batches; the rest of a shard starts the first batch of the next."""
    sizes = iter(batch_sizes)
    missing = next(sizes)
    parts: list[Batch] = []
    for images, labels in shards:
        order = torch.randperm(len(images)).to(images.device)
        while missing and len(order):
            taken, order = order[:missing], order[missing:]
            parts.append((images[taken], labels[taken]))
            missing -= len(taken)
            if not missing:
                yield torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
                parts, missing = [], next(sizes, 0)


def _batch_sizes(counts: Sequence[int], batch_size: int) -> list[list[int]]:
    """Spread an epoch's images evenly over its batches.

    Few images come in smaller batches than `batch_size`, because a handful of steps teaches nothing. Every process has
    at least two images in each batch, which batch normalisation needs.

    Args:
        counts: Number of images of each process.
        batch_size: The largest size of a batch, of all processes together.

    Returns:
        The number of images in each batch, by rank of the process.

    Raises:
        PermanentError: There are too few images.
    """
    batch_size = min(batch_size, max(SMALLEST_BATCH, sum(counts) // STEPS_PER_EPOCH))
    steps = min(ceil(sum(counts) / batch_size), min(counts) // 2)
    if steps == 0:
        raise PermanentError(
            f"{sum(counts)} images are too few to train by {len(counts)} processes, each of which needs two: add "
            "images, or set the Param `workers` to a smaller number."
        )
    return [
        [end - start for start, end in pairwise(count * step // steps for step in range(steps + 1))] for count in counts
    ]
