"""A worker of a training, as a process: `python -m tests.dags.worker_process <function> <JSON of its arguments>`."""

import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed import Store  # type: ignore[attr-defined]

from image_classifier import networks, saved_training, shards, training
from ml_common import device, workers
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket
from ml_common.team import Team
from tests.dags import narrow_network

BYTES_PER_PIXEL = 640
IMAGES, BATCH_SIZE, EPOCHS = 32, 8, 2


def images_of(rank: int, size: int) -> shards.Shards:
    """Return a process' part of 32 random images of two classes."""
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mine = slice(IMAGES * rank // size, IMAGES * (rank + 1) // size)
    return shards.Shards([IMAGES // size], lambda _: (images[mine], torch.arange(IMAGES)[mine] % 2))


def fine_tune(team: Team) -> tuple[torch.nn.Module, list[training.Epoch]]:
    """Fine-tune a network on the part of a process, whose random numbers begin with its rank."""
    torch.manual_seed(0)
    network = narrow_network.create("resnet18", 2)
    torch.manual_seed(team.rank)
    history = training.fine_tune(
        network,
        images_of(team.rank, team.size),
        epochs=EPOCHS,
        learning_rate=0.01,
        batch_size=BATCH_SIZE,
        bytes_per_pixel=BYTES_PER_PIXEL,
        device=device.cpu(threads=1),
        team=team,
    )
    return network, history


def fine_tune_and_save(folder: Path, team: Team) -> None:
    """Store the weights, its own statistics and the epochs of a process in a folder."""
    statistics: dict[str, torch.Tensor] = {}
    average = Team.average_statistics

    def record_and_average(team: Team, network: torch.nn.Module) -> None:
        statistics.update(
            {name: buffer.clone() for name, buffer in network.named_buffers() if buffer.is_floating_point()}
        )
        average(team, network)

    Team.average_statistics = record_and_average  # type: ignore[method-assign,assignment]
    network, history = fine_tune(team)
    epochs = [asdict(epoch) for epoch in history]
    results = {"weights": network.state_dict(), "statistics": statistics, "epochs": epochs}
    torch.save(results, folder / f"{team.rank}.pt")


def fail_for_good(_team: Team) -> None:
    """Fail as a training does whose images are too large."""
    raise PermanentError("The GPU has too little memory.")


def be_killed(_team: Team) -> None:
    """End as the kernel ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(Store):
    """The store of a process that dies as soon as it has published its address for the others."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def set(self, key: str, value: str) -> None:
        self._store.set(key, value)

    def wait(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def set_timeout(self, timeout: object) -> None:
        """Nothing takes time here."""


def be_lost(bucket: str, folder: str, worker: dict[str, int]) -> None:
    """Join the others, and die while they connect."""
    form = workers._form
    workers._form = lambda team, backend, store: form(team, backend, Dying(store))  # type: ignore[arg-type]
    train_small(bucket, folder, worker, "")


def lose_another(bucket: str, folder: str, worker: dict[str, int]) -> None:
    """Be a worker that soon gives up to connect."""
    workers.FORM_SECONDS = 10.0
    train_small(bucket, folder, worker, "")


def train_small(bucket: str, folder: str, worker: dict[str, int], saved_in: str) -> None:
    """Train without the steps."""
    workers.run(
        partial(fine_tune_and_save, Path(saved_in)), workers.Worker(**worker), workers.Meeting(Bucket(bucket), folder)
    )


def train(
    fingerprint: str,
    tensors: str,
    checkpoint: str,
    parameters: dict[str, Any],
    worker: int,
    *,
    killed_after: int | None = None,
) -> None:
    """Run the step, save its state after every epoch and, if asked, die after one."""
    from image_classifier import steps  # with MLflow
    from image_classifier.parameters import Parameters

    networks.create = narrow_network.create
    saved_training.INTERVAL_SECONDS = 0
    gather = Team.gather
    epochs = 0

    def gather_or_die(self: Team, values: torch.Tensor) -> list[torch.Tensor]:
        nonlocal epochs
        gathered = gather(self, values)
        epochs += len(values) > 1  # the random numbers, at the end of an epoch
        if epochs == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return gathered

    if killed_after is not None:
        Team.gather = gather_or_die  # type: ignore[method-assign]
    print(json.dumps(steps.train(fingerprint, tensors, checkpoint, Parameters(**parameters), worker)))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    arguments = json.loads(sys.argv[2])
    {one.__name__: one for one in (train, train_small, be_lost, lose_another)}[sys.argv[1]](**arguments)
