"""The checkpoint that fine-tuning starts from: trained here, torchvision's pretrained weights, or the user's own."""

import logging
import pickle
import re
import time
import urllib.request
from hashlib import sha256
from http.client import HTTPException
from io import BytesIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from image_classifier import augmentation, glyphs, keys, networks, training
from image_classifier.resnets import ResNet, get_model_weights
from ml_common import device as devices
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket

log = logging.getLogger(__name__)

SEED = 0
IMAGE_SIZE = 32
EPOCHS = 3
BATCHES_PER_EPOCH = 32
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
CLASSIFIER_HEAD = "fc."
WEIGHTS = "model.safetensors"
# A ResNet-50 has 98 MB; this leaves room for double precision and a large head.
MAX_BYTES = 256 * 1024**2
DOWNLOAD_TIMEOUT_SECONDS = 20
# torchvision's file names end with the first digits of the content's SHA-256:
# https://docs.pytorch.org/docs/stable/hub.html#torch.hub.load_state_dict_from_url
HASH_PREFIX = re.compile(r"-([0-9a-f]{8,})\.pth$")


def trained_here(bucket: Bucket, architecture: str) -> str:
    """Return the key of the base checkpoint, trained on drawn characters once for each version of this code."""
    sources = [keys.PACKAGE / f"{module.__name__.rpartition('.')[2]}.py" for module in (augmentation, glyphs, networks)]
    sources += [keys.PACKAGE / "training.py", keys.PACKAGE / "checkpoints.py"]
    folder = keys.base_folder(architecture, keys.code_version(sources))
    if bucket.published(folder) is not None:
        log.info("Reusing the base checkpoint at %s.", bucket.uri(folder))
        return folder + WEIGHTS
    network, history = _train(architecture)
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    bucket.publish(folder, {WEIGHTS: save(weights)}, {"epochs": [epoch.as_dict() for epoch in history]})
    return folder + WEIGHTS


def _train(architecture: str) -> tuple[ResNet, list[training.Epoch]]:
    device = devices.best_device()
    torch.manual_seed(SEED)
    network = networks.create(architecture, glyphs.CLASS_COUNT)
    drawn = glyphs.masks(IMAGE_SIZE)
    started = time.perf_counter()
    history = training.fit(
        network,
        lambda: glyphs.batches(drawn, batch_count=BATCHES_PER_EPOCH, batch_size=BATCH_SIZE, device=device),
        batch_sizes=[BATCH_SIZE] * BATCHES_PER_EPOCH,
        epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        bytes_per_pixel=networks.TRAINING_BYTES_PER_PIXEL[architecture],
        device=device,
    )
    log.info("Trained the base checkpoint in %.1f s on %s.", time.perf_counter() - started, device.description)
    return network, history


def pretrained(bucket: Bucket, architecture: str, weights: str) -> str:
    """Return the key of torchvision's pretrained weights, which are downloaded into the bucket once.

    Args:
        bucket: Where the weights are kept.
        architecture: A network of torchvision's, such as `resnet18`.
        weights: Their name in torchvision, such as `IMAGENET1K_V1`.

    Raises:
        ServiceUnavailableError: The weights cannot be downloaded.
    """
    url = get_model_weights(architecture)[weights].url
    key = keys.pretrained_key(url.rpartition("/")[2])
    if bucket.exists(key):
        log.info("Reusing the pretrained weights at %s.", bucket.uri(key))
        return key
    try:
        bucket.put(key, _downloaded(url))
    except (OSError, HTTPException) as error:
        raise ServiceUnavailableError(
            f"The pretrained weights of {architecture} could not be downloaded from {url} ({error}): allow this "
            f"connection, upload the file to {bucket.uri(key)}, or set the Param `weights` to none."
        ) from error
    log.info("Downloaded the pretrained weights to %s.", bucket.uri(key))
    return key


def _downloaded(url: str) -> bytes:
    """Return the file at `url`. Raises OSError when it cannot be read, or when its hash is not the one in its name."""
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:  # noqa: S310 - torchvision's https
        data: bytes = response.read()
    name = HASH_PREFIX.search(url)
    if name is None or not sha256(data).hexdigest().startswith(name[1]):
        raise OSError(f"the SHA-256 of the {len(data)} bytes received is not the one in the file's name")
    return data


def read(bucket: Bucket, key: str) -> bytes:
    """Return the content of a checkpoint's file.

    Raises:
        PermanentError: The file is too large to be a ResNet's.
    """
    size = bucket.size(key)
    if size > MAX_BYTES:
        raise PermanentError(
            f"The checkpoint {key} has {size // 1024**2} MB, more than the {MAX_BYTES // 1024**2} MB that a ResNet "
            "can have: set the Param `base_checkpoint` to another one, or to null to use the default."
        )
    return bucket.get(key)


def network_from(checkpoint: bytes, name: str, architecture: str, class_count: int) -> ResNet:
    """Create a network with the checkpoint's weights and a new head for `class_count` classes.

    Args:
        checkpoint: A torchvision state dict as `.pth`, read without running code from it, or as `.safetensors`.
        name: Its file name.
        architecture: The network that it is of.
        class_count: Number of classes.

    Raises:
        PermanentError: The file cannot be read, or is of another network.
    """
    network = networks.create(architecture, class_count)
    expected = {key: value for key, value in network.state_dict().items() if not key.startswith(CLASSIFIER_HEAD)}
    found = {key: value for key, value in _read(checkpoint, name).items() if not key.startswith(CLASSIFIER_HEAD)}
    differing = sorted(expected.keys() ^ found.keys())
    differing += [key for key in expected.keys() & found.keys() if expected[key].shape != found[key].shape]
    if differing:
        raise PermanentError(
            f"The checkpoint {name} is not a torchvision {architecture}: {len(differing)} parameters are missing, "
            f"unknown or of another shape, such as {differing[0]}; set the Param `architecture` to the checkpoint's, "
            "or `base_checkpoint` to null to use the default."
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
        raise PermanentError(f"The checkpoint {name} is not a state dict of tensors: upload one.")
    return state
