"""One training loop for the base checkpoint and for fine-tuning."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from image_classifier.augmentation import Geometry
from image_classifier.model import normalise
from image_classifier.resnet import ResNet18
from image_classifier.shards import Shards, Tensors
from ml_common.device import Device

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
    """What one pass over the training images gave; loss in nats, accuracy on the augmented batches."""

    number: int
    loss: float
    accuracy: float
    seconds: float
    finished_at_ms: int

    def as_dict(self) -> dict[str, float | int]:
        """For JSON."""
        return asdict(self)


def fit(
    network: ResNet18,
    batches: Callable[[], Iterator[Batch]],
    *,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
    steps_per_epoch: int,
    epochs: int,
    learning_rate: float,
    device: Device,
) -> list[Epoch]:
    """Train `network` in place by AdamW under a one-cycle schedule that peaks at `learning_rate`.

    `batches()` yields one epoch of (images [N, 3, S, S], int64 labels [N]) on `device`; `prepare` makes any number of
    these images floats in 0..1. A batch goes through the network in as many passes as the device's memory needs, and
    the gradients of all are one step; batch normalisation sees one pass at a time.
    """
    network.to(device.torch_device, memory_format=device.memory_format)  # type: ignore[call-overload]
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    total_steps = max(epochs * steps_per_epoch, SHORTEST_SCHEDULE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=learning_rate, total_steps=total_steps, pct_start=WARM_UP_FRACTION
    )
    history = []
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        loss_sum, correct, count = 0.0, 0, 0
        for images, labels in batches():
            optimiser.zero_grad(set_to_none=True)
            passes = device.passes(images)
            for part, truth in zip(images.tensor_split(passes), labels.tensor_split(passes), strict=True):
                pixels = normalise(prepare(part)).contiguous(memory_format=device.memory_format)
                with device.autocast():
                    logits = network(pixels)
                    loss = functional.cross_entropy(logits, truth, label_smoothing=LABEL_SMOOTHING)
                (loss * (len(truth) / len(labels))).backward()  # type: ignore[no-untyped-call]
                loss_sum += loss.item() * len(truth)
                correct += int((logits.argmax(1) == truth).sum())
            optimiser.step()
            schedule.step()
            count += len(labels)
        epoch = Epoch(number, loss_sum / count, correct / count, time.perf_counter() - started, int(time.time() * 1000))
        log.info(
            "epoch %d/%d: loss %.4f, training accuracy %.4f, %.1f s",
            number, epochs, epoch.loss, epoch.accuracy, epoch.seconds,
        )  # fmt: skip
        history.append(epoch)
    network.eval()
    return history


def fine_tune(
    network: ResNet18,
    shards: Shards,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    device: Device,
) -> list[Epoch]:
    """Train on uint8 images [N, 3, S, S] and int64 labels [N], shuffled and augmented repeatably by `seed`."""
    generator = Generator().manual_seed(seed)
    batch_sizes = _batch_sizes(sum(shards.counts), batch_size)

    def batches() -> Iterator[Batch]:
        order = torch.randperm(len(shards.counts), generator=generator).tolist()
        on_device = ((device.receive(images), device.receive(labels)) for images, labels in shards.read(order))
        return _shuffled(on_device, batch_sizes, generator)

    return fit(
        network,
        batches,
        prepare=lambda images: FINE_TUNING_GEOMETRY.apply(images.float() / 255, generator),
        steps_per_epoch=len(batch_sizes),
        epochs=epochs,
        learning_rate=learning_rate,
        device=device,
    )


def _shuffled(shards: Iterable[Tensors], batch_sizes: Iterable[int], generator: Generator) -> Iterator[Batch]:
    """Cut the shards, each of them shuffled, into batches; what a shard leaves begins the first batch of the next."""
    sizes = iter(batch_sizes)
    missing = next(sizes)
    parts: list[Batch] = []
    for images, labels in shards:
        order = torch.randperm(len(images), generator=generator).to(images.device)
        while missing and len(order):
            taken, order = order[:missing], order[missing:]
            parts.append((images[taken], labels[taken]))
            missing -= len(taken)
            if not missing:
                yield torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
                parts, missing = [], next(sizes, 0)


def _batch_sizes(image_count: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches; a lone last image joins the batch before, for batch normalisation needs two.

    Few images come in smaller batches than `batch_size`: in a handful of steps nothing would be learned.
    """
    batch_size = min(batch_size, max(SMALLEST_BATCH, image_count // STEPS_PER_EPOCH))
    full, rest = divmod(image_count, batch_size)
    sizes = [batch_size] * full + ([rest] if rest else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [batch_size + 1]
    return sizes
