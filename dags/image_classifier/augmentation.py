"""Random geometry for batches of images."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

# Share of an image's side by which it is extended: more than any geometry here brings in from outside.
BORDER = 0.4


@dataclass(frozen=True)
class Geometry:
    """Largest change of each kind; no mirroring, which would turn one character into another.

    Attributes:
        degrees: Rotation in either direction.
        scale: Change in size, as a fraction.
        shift: Translation along each axis, as a fraction of the image's side.
    """

    degrees: float
    scale: float
    shift: float

    def apply(self, images: Tensor) -> Tensor:
        """Rotate, scale and shift each image on its own, by random numbers from torch's global generator.

        Args:
            images: float [N, C, S, S].

        Returns:
            float [N, C, S, S]; what comes in from outside an image repeats its border.
        """
        side = images.shape[-1]
        border = round(side * BORDER)
        shift = self.shift * side / (side + 2 * border)
        affine = v2.RandomAffine(
            self.degrees,
            translate=(shift, shift),
            scale=(1 - self.scale, 1 + self.scale),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        # RandomAffine repeats no border, and changes all images of a batch alike.
        extended = v2.functional.pad(images, [border], padding_mode="edge")
        changed: Tensor = v2.functional.center_crop(torch.stack([affine(image) for image in extended]), [side, side])
        return changed
