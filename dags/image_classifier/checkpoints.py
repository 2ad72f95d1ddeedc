"""The checkpoint that fine-tuning starts from: one trained here, or a torchvision ResNet-18 of the user's own."""

import logging
import pickle
import time
from io import BytesIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Generator, Tensor

from image_classifier import augmentation, glyphs, keys, resnet, training
from image_classifier.resnet import ResNet18
from ml_common import device as devices
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket

log = logging.getLogger(__name__)

SEED = 0
IMAGE_SIZE = 32
EPOCHS = 6
BATCHES_PER_EPOCH = 32
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
CLASSIFIER_HEAD = "fc."
WEIGHTS = "model.safetensors"
# A ResNet-18 has 45 MB; this leaves room for double precision and a large head.
MAX_BYTES = 256 * 1024**2


def trained_here(bucket: Bucket) -> str:
    """Key of the base checkpoint trained on drawn characters; trained only when this code's is not there yet."""
    sources = [keys.PACKAGE / f"{module.__name__.rpartition('.')[2]}.py" for module in (augmentation, glyphs, resnet)]
    sources += [keys.PACKAGE / "training.py", keys.PACKAGE / "checkpoints.py"]
    folder = keys.base_folder(keys.code_version(sources))
    if bucket.published(folder) is not None:
        log.info("The base checkpoint is already at %s: reused.", bucket.uri(folder))
        return folder + WEIGHTS
    network, history = _train()
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    bucket.publish(folder, {WEIGHTS: save(weights)}, {"epochs": [epoch.as_dict() for epoch in history]})
    return folder + WEIGHTS


def _train() -> tuple[ResNet18, list[training.Epoch]]:
    device = devices.best_device()
    torch.manual_seed(SEED)
    generator = Generator().manual_seed(SEED)
    network = ResNet18(glyphs.CLASS_COUNT)
    drawn = glyphs.masks(IMAGE_SIZE)
    started = time.perf_counter()
    history = training.fit(
        network,
        lambda: glyphs.batches(
            drawn, batch_count=BATCHES_PER_EPOCH, batch_size=BATCH_SIZE, generator=generator, device=device
        ),
        steps_per_epoch=BATCHES_PER_EPOCH,
        epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        device=device,
    )
    log.info("The base checkpoint took %.1f s on %s.", time.perf_counter() - started, device.description)
    return network, history


def read(bucket: Bucket, key: str) -> bytes:
    """The checkpoint's file. Raises PermanentError when it is too large to be a ResNet-18."""
    size = bucket.size(key)
    if size > MAX_BYTES:
        raise PermanentError(
            f"The checkpoint {key} has {size // 1024**2} MB, more than the {MAX_BYTES // 1024**2} MB that a ResNet-18 "
            "can have: set the Param `base_checkpoint` to another one, or to null to use the default."
        )
    return bucket.get(key)


def network_from(checkpoint: bytes, name: str, class_count: int) -> ResNet18:
    """A ResNet-18 with the checkpoint's weights and a new head for `class_count` classes.

    Takes a torchvision state dict as `.pth`, read without running code from it, or as `.safetensors`.
    Raises PermanentError when the file cannot be read or is of another network.
    """
    network = ResNet18(class_count)
    expected = {key: value for key, value in network.state_dict().items() if not key.startswith(CLASSIFIER_HEAD)}
    found = {key: value for key, value in _read(checkpoint, name).items() if not key.startswith(CLASSIFIER_HEAD)}
    differing = sorted(expected.keys() ^ found.keys())
    differing += [key for key in expected.keys() & found.keys() if expected[key].shape != found[key].shape]
    if differing:
        raise PermanentError(
            f"The checkpoint {name} is not a torchvision ResNet-18: {len(differing)} parameters are missing, unknown "
            f"or of another shape, such as {differing[0]}; set the Param `base_checkpoint` to null to use the default."
        )
    network.load_state_dict(found, strict=False)
    return network


def _read(checkpoint: bytes, name: str) -> dict[str, Tensor]:
    is_safetensors = name.endswith(".safetensors")
    try:
        state = load(checkpoint) if is_safetensors else torch.load(BytesIO(checkpoint), "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise PermanentError(
            f"The checkpoint {name} cannot be read as {'safetensors' if is_safetensors else 'weights'}: "
            "upload a state dict saved by torch.save (.pth) or safetensors (.safetensors)."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise PermanentError(f"The checkpoint {name} holds something else than a state dict of tensors.")
    return state
