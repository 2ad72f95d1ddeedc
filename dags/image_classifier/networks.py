"""torchvision's ResNets, with one output for each class of a dataset."""

from image_classifier.resnets import ResNet, get_model

# Memory that a pixel of the input takes until the gradients are computed, in single precision, by architecture.
TRAINING_BYTES_PER_PIXEL = {"resnet18": 640, "resnet34": 930, "resnet50": 2480}


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
    return get_model(architecture, num_classes=class_count)
