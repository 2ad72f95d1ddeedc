"""A dataset's images as tensors, in files that are small enough for any task's memory.

A shard is a safetensors file with `images`, uint8 [N, 3, S, S], and `labels`, int64 [N], the indices of the classes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate, pairwise
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from image_classifier.dataset import LabelledImage
from image_classifier.images import to_tensor
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket
from ml_common.parallel import ahead, parallel_map
from ml_common.team import ALONE, Team

# A task holds one shard while it fetches the next; its pod has 2 GiB.
SHARD_BYTES = 256 * 1024**2

Tensors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Shards:
    """Images and labels that are read one shard at a time.

    Attributes:
        counts: Number of images in each shard.
        load: Images and labels of the shard with this index.
    """

    counts: Sequence[int]
    load: Callable[[int], Tensors]

    def read(self, order: Iterable[int] | None = None) -> Iterator[Tensors]:
        """Yield each shard once, in this order or as stored, and fetch the next one meanwhile."""
        return ahead(self.load, range(len(self.counts)) if order is None else order)


def stored(bucket: Bucket, folder: str, name: str, counts: Sequence[int], team: Team = ALONE) -> Shards:
    """Return what `write` stored under this name, or one process' part of each shard.

    A whole shard in use is a file mapped into memory. Of its part, a process fetches only the bytes.
    """
    bounds = [(count * team.rank // team.size, count * (team.rank + 1) // team.size) for count in counts]

    # A dataset of one shard is fetched once for all epochs.
    @lru_cache(maxsize=1)
    def load(index: int) -> Tensors:
        key = folder + _file_name(name, index)
        return _whole(bucket, key) if team.size == 1 else _rows(bucket, key, *bounds[index])

    return Shards([end - start for start, end in bounds], load)


def _whole(bucket: Bucket, key: str) -> Tensors:
    with TemporaryDirectory() as temporary:
        path = Path(temporary, "shard")
        bucket.download(key, path)
        tensors = load_file(path)
    return tensors["images"], tensors["labels"]


def _rows(bucket: Bucket, key: str, start: int, end: int) -> Tensors:
    """Return a shard's rows from `start` up to `end`.

    The file has the length of its header in 8 bytes, the header, and the tensors:
    https://github.com/huggingface/safetensors#format
    """
    tensors_at = 8 + int.from_bytes(bucket.get_range(key, 0, 8), "little")
    header = json.loads(bucket.get_range(key, 8, tensors_at))

    def rows(name: str, dtype: torch.dtype) -> Tensor:
        (count, *shape), (first, last) = header[name]["shape"], header[name]["data_offsets"]
        if start == end:
            return torch.empty((0, *shape), dtype=dtype)
        row_bytes = (last - first) // count
        begin = tensors_at + first
        content = bucket.get_range(key, begin + start * row_bytes, begin + end * row_bytes)
        return torch.frombuffer(bytearray(content), dtype=dtype).view(-1, *shape)

    return rows("images", torch.uint8), rows("labels", torch.int64)


def write(
    source: Bucket,
    images: Sequence[LabelledImage],
    classes: Sequence[str],
    image_size: int,
    target: Bucket,
    folder: str,
    name: str,
) -> list[int]:
    """Store images of `source` under this name in a folder of `target`.

    They are stored in the order of their hashes, so that every shard is a fair sample of the dataset.

    Returns:
        The number of images in each shard.

    Raises:
        PermanentError: An image has changed since `validate` ran.
    """
    ordered = sorted(images, key=lambda image: (image.sha256, image.key))
    counts = shard_counts(len(ordered), image_size)

    def write_shard(index: int, part: Sequence[LabelledImage]) -> None:
        with TemporaryDirectory() as temporary:
            path = Path(temporary, "shard")
            save_file(_tensors(source, part, classes, image_size), path)
            target.upload(path, folder + _file_name(name, index))

    for index, (start, end) in enumerate(pairwise(accumulate(counts, initial=0))):
        write_shard(index, ordered[start:end])
    return counts


def shard_counts(image_count: int, image_size: int) -> list[int]:
    """Spread images evenly over as few shards of SHARD_BYTES as possible; return the number in each."""
    shards = ceil(image_count * 3 * image_size**2 / SHARD_BYTES)
    return [image_count // shards + (index < image_count % shards) for index in range(shards)]


def _tensors(
    source: Bucket, images: Sequence[LabelledImage], classes: Sequence[str], image_size: int
) -> dict[str, Tensor]:
    pixels = torch.empty(len(images), 3, image_size, image_size, dtype=torch.uint8)

    def fill(index: int) -> None:
        pixels[index] = to_tensor(_content(source, images[index]), image_size)

    for _ in parallel_map(fill, range(len(images))):
        pass
    positions = {label: position for position, label in enumerate(classes)}
    return {"images": pixels, "labels": torch.tensor([positions[image.label] for image in images])}


def _content(source: Bucket, image: LabelledImage) -> bytes:
    data = source.get(image.key)
    if sha256(data).hexdigest() != image.sha256:
        raise PermanentError(f"{source.uri(image.key)} changed during this run: start another run.")
    return data


def _file_name(name: str, index: int) -> str:
    return f"{name}-{index:05d}.safetensors"
