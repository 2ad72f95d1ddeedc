"""From the bytes of an image file, of whatever kind, to a tensor; the same for training and for serving."""

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000

# Formats that hold one photograph or drawing. Pillow also opens some by starting other programs (EPS): not here.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Pillow's own limit only warns up to twice its value; MAX_PIXELS is checked from the header before decoding instead.
Image.MAX_IMAGE_PIXELS = None

EMPTY = "the file is empty"
TOO_MANY_BYTES = f"the file is larger than {MAX_BYTES // 1024**2} MB"
TOO_MANY_PIXELS = f"the image has more than {MAX_PIXELS // 1_000_000} megapixels"
NOT_AN_IMAGE = "the file is not an image in a known format"
DAMAGED = "the file is truncated or damaged"
UNKNOWN_RANGE = "the image's pixel values have no known range (32-bit or floating point)"


class UnreadableImageError(Exception):
    """The bytes cannot become a tensor; the message is one of the reasons above."""


def to_tensor(data: bytes, image_size: int) -> Tensor:
    """Image file to uint8 [3, image_size, image_size] in RGB; the aspect ratio is not kept.

    Raises UnreadableImageError.
    """
    image = decode(data).resize((image_size, image_size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def decode(data: bytes) -> Image.Image:
    """Image file to an upright 8-bit RGB picture; of an animation the first frame.

    Raises UnreadableImageError.
    """
    if not data:
        raise UnreadableImageError(EMPTY)
    if len(data) > MAX_BYTES:
        raise UnreadableImageError(TOO_MANY_BYTES)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # on damaged data Pillow's parsers raise nearly anything
        raise UnreadableImageError(NOT_AN_IMAGE) from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(TOO_MANY_PIXELS)
    try:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(DAMAGED) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to 8-bit RGB.

    16-bit values are scaled, not clipped. Transparency is laid on white: a picture that has it was drawn to be shown on
    a page. Raises UnreadableImageError for values of unknown range.
    """
    if image.mode.startswith(("I", "F")):
        return _scaled_to_8_bit(image).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _scaled_to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(UNKNOWN_RANGE)
    return Image.fromarray((values / 257 + 0.5).astype(np.uint8))
