"""torchvision's ResNets, with one output for each class of a dataset."""

from torch import Tensor, nn
from torch.nn import functional

from image_classifier.resnets import ResNet, get_model

# Memory that a pixel of the input takes until the gradients are computed, in single precision, by architecture.
TRAINING_BYTES_PER_PIXEL = {"resnet18": 640, "resnet34": 930, "resnet50": 2480}


class Convolution(nn.Conv2d):
    """A 3x3 convolution with a padding of one pixel that leaves out products with zeros where its output is one pixel.

    The last layers of a network get images of one or two pixels if its input has the smallest size. Then most of the
    kernel, and of the time, would be for the padding.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 # the name in torch
        """Return the convolution of float [N, C, H, W]."""
        height, width = input.shape[-2:]
        if height > self.stride[0] or width > self.stride[1]:
            return super().forward(input)
        return functional.conv2d(input, self.weight[:, :, 1 : 1 + height, 1 : 1 + width], self.bias)


def create(architecture: str, class_count: int) -> ResNet:
    """Create an untrained network.

    Its first layers are torchvision's, which shrink an image to a quarter of its side: small images need no other ones,
    and checkpoints fit.

    Args:
        architecture: A key of TRAINING_BYTES_PER_PIXEL.
        class_count: Number of outputs.

    Returns:
        A network that takes normalised images, float [N, 3, S, S] with S >= 32, and returns logits, float
        [N, class_count].
    """
    network = get_model(architecture, num_classes=class_count)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.__class__ = Convolution
    return network
