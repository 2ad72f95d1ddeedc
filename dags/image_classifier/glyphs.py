"""Drawn characters and shapes, on which the base checkpoint is trained without downloading data."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from image_classifier.augmentation import Geometry
from image_classifier.training import Batch
from ml_common.device import Device

CHARACTERS = "0123456789ABCDEFGHJKLMNPQRTUVWXYZ"
SHAPES = ("ellipse", "rectangle", "triangle", "ring")
CLASS_COUNT = len(CHARACTERS) + len(SHAPES)

GEOMETRY = Geometry(degrees=12, scale=0.2, shift=0.1)
COLOUR_RANGE = 0.4
LARGEST_NOISE = 0.1
COARSEST_SIDE = 12


def masks(size: int) -> Tensor:
    """Draw one mask per class, white on black: float [CLASS_COUNT, 1, size, size] in 0..1."""
    pictures = [_character(character, size) for character in CHARACTERS]
    pictures += [_shape(shape, size) for shape in SHAPES]
    return torch.from_numpy(np.stack([np.array(picture) for picture in pictures]))[:, None].float() / 255


def batches(drawn: Tensor, *, batch_count: int, batch_size: int, device: Device) -> Iterator[Batch]:
    """Yield what `masks` drew with random classes, geometry, sharpness, colours and noise, on `device`.

    The random numbers come from torch's global generator.
    """
    for _ in range(batch_count):
        labels = torch.randint(CLASS_COUNT, (batch_size,))
        images = GEOMETRY.apply(drawn[labels])
        images = _blurred(images)
        dark, light = torch.rand(2, batch_size, 3, 1, 1) * COLOUR_RANGE
        images = dark + (1 - light - dark) * images
        negative = torch.rand(batch_size, 1, 1, 1) < 0.5
        images = torch.where(negative, 1 - images, images)
        noise = torch.randn(images.shape)
        images = images + noise * torch.rand(batch_size, 1, 1, 1) * LARGEST_NOISE
        yield images.clamp(0, 1).to(device.torch_device), labels.to(device.torch_device)


def _blurred(images: Tensor) -> Tensor:
    """Shrink the whole batch to a random size and back, so that it looks like photographs of small objects."""
    size = images.shape[-1]
    side = int(torch.randint(COARSEST_SIDE, size + 1, (1,)))
    small = functional.interpolate(images, (side, side), mode="area")
    return functional.interpolate(small, (size, size), mode="bilinear", align_corners=False)


def _character(character: str, size: int) -> Image.Image:
    picture = Image.new("L", (size, size))
    font = ImageFont.load_default(size * 0.9)
    ImageDraw.Draw(picture).text((size / 2, size / 2), character, fill=255, font=font, anchor="mm", stroke_width=1)
    return picture


def _shape(shape: str, size: int) -> Image.Image:
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    low, high = size * 0.15, size * 0.85
    box = (low, low, high, high)
    if shape == "ellipse":
        draw.ellipse(box, fill=255)
    elif shape == "rectangle":
        draw.rectangle(box, fill=255)
    elif shape == "triangle":
        draw.polygon([(size / 2, low), (low, high), (high, high)], fill=255)
    else:
        draw.ellipse(box, outline=255, width=max(1, size // 8))
    return picture
