"""Random geometry for batches of images, in torch alone and repeatable by the generator's seed."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Geometry:
    """Largest change of each kind; no mirroring, which would turn one character into another."""

    degrees: float
    scale: float
    shift: float

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Rotate, scale and shift each image on its own.

        images: float [N, C, S, S]; `degrees` of rotation either way, `scale` and `shift` as fractions of the image's
        size. What comes in from outside repeats the border.
        """
        count = len(images)
        uniform = (torch.rand(count, 4, generator=generator) * 2 - 1).to(images.device)
        angle = uniform[:, 0] * math.radians(self.degrees)
        zoom = 1 + uniform[:, 1] * self.scale
        shift = uniform[:, 2:] * self.shift * 2  # affine_grid measures from -1 to 1
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        matrix = torch.stack(
            [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)], 1
        )
        grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
