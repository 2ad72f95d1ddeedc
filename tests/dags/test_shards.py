import threading
import weakref
from collections.abc import Callable
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from image_classifier import shards, training
from image_classifier.dataset import LabelledImage
from image_classifier.shards import Shards
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket

SIDE = 32
CLASSES = ["blue", "green", "red"]


@pytest.fixture
def images(upload_images: Callable[..., None], data: Bucket) -> list[LabelledImage]:
    upload_images()
    return [
        LabelledImage(found.key, sha256(data.get(found.key)).hexdigest(), found.key.split("/")[1])
        for found in data.list("images/")
    ]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images of 32 pixels in each."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 10 * 3 * SIDE**2)


def test_images_are_spread_evenly_over_few_shards() -> None:
    assert shards.shard_counts(1437, 32) == [1437]
    counts = shards.shard_counts(40_000, 224)
    assert sum(counts) == 40_000
    assert max(counts) - min(counts) <= 1
    assert 200 * 1024**2 < max(counts) * 3 * 224**2 <= 257 * 1024**2


@pytest.mark.usefixtures("small_shards")
def test_every_image_is_in_one_shard_and_every_shard_has_images_of_several_classes(
    images: list[LabelledImage], data: Bucket, artifacts: Bucket
) -> None:
    counts = shards.write(data, images, CLASSES, SIDE, artifacts, "out/", "train")
    assert counts == [8, 8, 8]
    stored = shards.stored(artifacts, "out/", "train", counts)
    labels = [labels.tolist() for _, labels in stored.read()]
    assert sorted(label for one in labels for label in one) == [0] * 8 + [1] * 8 + [2] * 8
    assert all(len(set(one)) > 1 for one in labels)
    assert [found.key for found in artifacts.list("out/")] == [f"out/train-0000{n}.safetensors" for n in range(3)]
    assert load(artifacts.get("out/train-00000.safetensors"))["images"].shape == (8, 3, SIDE, SIDE)


def test_an_image_that_changed_since_the_dataset_was_made_is_refused(
    images: list[LabelledImage], data: Bucket, artifacts: Bucket
) -> None:
    data.put(images[3].key, data.get(images[4].key))
    with pytest.raises(PermanentError, match=f"{images[3].key} changed during this run: start another"):
        shards.write(data, images, CLASSES, SIDE, artifacts, "out/", "train")


def test_the_only_shard_is_fetched_once(
    images: list[LabelledImage], data: Bucket, artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = shards.stored(
        artifacts, "out/", "train", shards.write(data, images, CLASSES, SIDE, artifacts, "out/", "train")
    )
    [before] = stored.read()
    monkeypatch.setattr(Bucket, "download", lambda *_: pytest.fail("fetched again"))
    [after] = stored.read()
    assert torch.equal(before[0], after[0])


def counted_shards(count: int) -> tuple[Shards, Callable[[], int]]:
    """Shards of four images, and how many of them are in memory."""
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def loaded(index: int) -> tuple[Tensor, Tensor]:
        pixels = torch.full((4, 3, SIDE, SIDE), index, dtype=torch.uint8)
        alive.add(pixels)
        return pixels, torch.full((4,), index)

    return Shards([4] * count, loaded), lambda: len(alive)


def test_shards_in_memory_do_not_grow_with_the_dataset() -> None:
    many, in_memory = counted_shards(20)
    held = [in_memory() for _ in training._shuffled(many.read(), [5] * 16)]
    assert max(held) <= 3


def test_the_next_shard_is_fetched_while_the_current_one_is_used() -> None:
    fetched = [threading.Event() for _ in range(3)]

    def load(index: int) -> tuple[Tensor, Tensor]:
        fetched[index].set()
        return torch.zeros(1), torch.zeros(1)

    reading = Shards([1, 1, 1], load).read()
    next(reading)
    assert fetched[1].wait(60)
    assert not fetched[2].is_set()


def test_batches_have_every_image_once_and_cross_shards() -> None:
    images, _ = counted_shards(3)
    batches = list(training._shuffled(images.read(), [5, 5, 2]))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    for pixels, labels in batches:
        assert torch.equal(pixels[:, 0, 0, 0].long(), labels)
