"""The classifier as a whole: weights with all that is needed to use them.

Evaluation and serving both go through `Classifier`, so an image is prepared in one way everywhere.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from image_classifier.images import to_array
from image_classifier.resnet import ResNet18
from ml_common.device import Device
from ml_common.errors import PermanentError

# ImageNet's, as every torchvision checkpoint expects:
# https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.resnet18.html
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_DEVIATION = (0.229, 0.224, 0.225)

# 150 MiB for the first layer's output.
EVALUATION_PIXELS = 2**20
METADATA = "classifier"


def normalise(images: Tensor) -> Tensor:
    """Float images in 0..1 [N, 3, S, S] to zero mean and unit deviation per channel."""
    mean = torch.tensor(CHANNEL_MEAN, device=images.device).view(1, 3, 1, 1)
    deviation = torch.tensor(CHANNEL_DEVIATION, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / deviation


@dataclass(frozen=True)
class Classifier:
    """A trained network, the names of its classes in the order of its outputs, and the side of its images in pixels."""

    network: ResNet18
    classes: tuple[str, ...]
    image_size: int

    def to(self, device: Device) -> "Classifier":
        """Move the network to `device` for use, not for training."""
        self.network.to(device.torch_device).eval()
        return self

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Images, uint8 [N, 3, image_size, image_size], to float32 [N, class count] on the CPU; rows sum to 1."""
        device = next(self.network.parameters()).device
        batches = [
            self.network(normalise(batch.to(device).float() / 255)).softmax(1).cpu()
            for batch in torch.split(images, max(1, EVALUATION_PIXELS // self.image_size**2))
        ]
        return torch.cat(batches)

    def classify(self, file: bytes) -> dict[str, float]:
        """Image file to the probability of each class. Raises UnreadableImageError."""
        return self.classify_pixels(to_array(file, self.image_size))

    def classify_pixels(self, pixels: np.ndarray) -> dict[str, float]:
        """What `to_array` made of an image file to the probability of each class."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return dict(zip(self.classes, self.probabilities(image[None])[0].tolist(), strict=True))

    def to_bytes(self) -> bytes:
        """One safetensors file; classes and image size are in its header."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        # One entry, for safetensors writes several in a random order: equal models must be equal bytes.
        return save(weights, {METADATA: json.dumps({"classes": self.classes, "image_size": self.image_size})})

    @classmethod
    def from_file(cls, path: Path) -> "Classifier":
        """Read what `to_bytes` gave. Raises PermanentError when the file is something else."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads(file.metadata()[METADATA])
                classes = tuple(metadata["classes"])
                network = ResNet18(len(classes))
                network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                return cls(network.eval(), classes, metadata["image_size"])
        except (SafetensorError, TypeError, KeyError, ValueError, RuntimeError, OSError) as error:
            raise PermanentError(f"{path.name} is not a model of image_classifier: {error}.") from error
