"""The classifier as a whole: a network's weights with everything that is needed to use them.

Evaluation and serving both use `Classifier`, so images are prepared in the same way everywhere.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from image_classifier.images import to_array
from ml_common.device import Device
from ml_common.errors import PermanentError

# ImageNet's, as every torchvision checkpoint expects:
# https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.resnet18.html
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_DEVIATION = (0.229, 0.224, 0.225)

# 150 MiB for the first layer's output.
EVALUATION_PIXELS = 2**20
METADATA = "classifier"
# Of model files that do not name theirs: all from before there was a choice.
FIRST_ARCHITECTURE = "resnet18"


def normalise(images: Tensor) -> Tensor:
    """Scale images, float [N, 3, S, S] in 0..1, by ImageNet's mean and deviation of each channel."""
    mean = torch.tensor(CHANNEL_MEAN, device=images.device).view(1, 3, 1, 1)
    deviation = torch.tensor(CHANNEL_DEVIATION, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / deviation


@dataclass(frozen=True)
class Classifier:
    """A trained network and what its inputs and outputs mean.

    Attributes:
        network: Takes normalised images, float [N, 3, image_size, image_size]; returns logits, float [N, class count].
        architecture: The network's name in torchvision, such as `resnet18`.
        classes: Names of the classes, in the order of the network's outputs.
        image_size: Side of the images in pixels.
    """

    network: nn.Module
    architecture: str
    classes: tuple[str, ...]
    image_size: int

    def to(self, device: Device) -> "Classifier":
        """Move the network to `device` and switch it to inference."""
        self.network.to(device.torch_device).eval()
        return self

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: uint8 [N, 3, image_size, image_size].

        Returns:
            float32 [N, class count] on the CPU; each row sums to 1.
        """
        device = next(self.network.parameters()).device
        batches = [
            self.network(normalise(batch.to(device).float() / 255)).softmax(1).cpu()
            for batch in torch.split(images, max(1, EVALUATION_PIXELS // self.image_size**2))
        ]
        return torch.cat(batches)

    def classify(self, file: bytes) -> dict[str, float]:
        """Return the probability of each class for an image file. Raises UnreadableImageError."""
        [probabilities] = self.classify_pixels(to_array(file, self.image_size)[None])
        return probabilities

    def classify_pixels(self, pixels: np.ndarray) -> list[dict[str, float]]:
        """Return the probability of each class for each image, uint8 [N, image_size, image_size, 3]."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        return [dict(zip(self.classes, row, strict=True)) for row in self.probabilities(images).tolist()]

    def to_bytes(self) -> bytes:
        """Return a safetensors file, with architecture, classes and image size in its header."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        metadata = {"architecture": self.architecture, "classes": self.classes, "image_size": self.image_size}
        # One entry: safetensors writes several in random order, and equal models must be equal bytes.
        return save(weights, {METADATA: json.dumps(metadata)})

    @classmethod
    def from_file(cls, path: Path) -> "Classifier":
        """Read a file that `to_bytes` wrote. Raises PermanentError for any other file."""
        # It loads torch's compiler: 4 s of CPU and 90 MiB that tasks without a network do not need.
        from image_classifier import networks

        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads(file.metadata()[METADATA])
                architecture, classes = metadata.get("architecture", FIRST_ARCHITECTURE), tuple(metadata["classes"])
                network = networks.create(architecture, len(classes))
                network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                return cls(network.eval(), architecture, classes, metadata["image_size"])
        except (SafetensorError, TypeError, KeyError, ValueError, RuntimeError, OSError) as error:
            raise PermanentError(f"{path.name} is not a model of image_classifier: {error}.") from error
