"""Decode image files of any format to tensors, in the same way for training and serving.

Images are decoded within a fixed amount of memory, `MAX_DECODING_BYTES`, no matter how many threads decode: a file
whose header asks for more is refused, and a file waits until other threads have freed the memory it needs.
"""

import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

if TYPE_CHECKING:  # the model server decodes in a process without memory for torch
    from torch import Tensor

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000

# With the model server's own memory this fits its pod (ml_common/serving_manifests.py): 50 megapixels in most formats,
# 20 in WebP. `make bench-serving` measures it.
MAX_DECODING_BYTES = 320 * 1024 * 1024

# Not among them are formats that Pillow opens by starting other programs, such as EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# A decoded picture has sides of at least this and below twice this, unless the file's are smaller: twice what the DAG's
# parameter `image_size` allows, so that the final resize still averages over several pixels.
LEAST_SIDE = 1024

# Two canvases of libwebp's, the bytes of the frame, and Pillow's picture.
WEBP_BYTES_PER_PIXEL = 16

# Of one tile of an image, while it is converted to RGB.
TILE_PIXELS = 1 << 20

# Pillow refuses twice this value as soon as it knows a size, before it allocates anything, and warns from the value on.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

# All text of one PNG. A file with more is read without its text: see _without_metadata.
PngImagePlugin.MAX_TEXT_MEMORY = PngImagePlugin.MAX_TEXT_CHUNK

EMPTY = "the file is empty"
TOO_MANY_BYTES = f"the file is larger than {MAX_BYTES // 1024**2} MB"
TOO_MANY_PIXELS = f"the image has more than {MAX_PIXELS // 1_000_000} megapixels"
TOO_MUCH_MEMORY = f"the image needs more than {MAX_DECODING_BYTES // 1024**2} MB of memory in its format"
NOT_AN_IMAGE = "the file is not an image in a known format"
DAMAGED = "the file is truncated or damaged"
UNKNOWN_RANGE = "the image's pixel values have no known range (32-bit or floating point)"

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
JPEG_SIGNATURE = b"\xff\xd8"
JPEG_FIRST_MARKER = 0xFF01
JPEG_SCAN = 0xFFDA
JPEG_APP1 = 0xFFE1
# All application segments and comments except APP0 and APP14, which define the colours.
JPEG_METADATA = {*range(JPEG_APP1, 0xFFF0), 0xFFFE} - {0xFFEE}
EXIF_SIGNATURE = b"Exif\0\0"

# https://www.media.mit.edu/pia/Research/deepview/exif.html
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(Exception):
    """The file cannot be decoded; the message is one of the reasons above."""


class MemoryBudget:
    """A number of bytes that threads share, first come first served, so that large requests do not starve."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._turn = threading.Lock()
        self._returned = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free and hold them."""
        with self._turn, self._returned:
            self._returned.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._returned:
                self._free += size
                self._returned.notify()


_memory = MemoryBudget(MAX_DECODING_BYTES)


def to_tensor(data: bytes, image_size: int) -> "Tensor":
    """Decode an image file to uint8 [3, image_size, image_size] in RGB, without keeping the aspect ratio.

    Raises:
        UnreadableImageError: The file cannot be decoded.
    """
    import torch

    return torch.from_numpy(to_array(data, image_size)).permute(2, 0, 1).contiguous()


def to_array(data: bytes, image_size: int) -> np.ndarray:
    """Decode an image file to uint8 [image_size, image_size, 3] in RGB, without keeping the aspect ratio.

    Raises:
        UnreadableImageError: The file cannot be decoded.
    """
    return np.array(decode(data).resize((image_size, image_size), Image.Resampling.BILINEAR))


def decode(data: bytes) -> Image.Image:
    """Decode an image file to an upright 8-bit RGB picture with sides below twice LEAST_SIDE.

    Of an animation, decode the first frame.

    Raises:
        UnreadableImageError: The file cannot be decoded.
    """
    if not data:
        raise UnreadableImageError(EMPTY)
    if len(data) > MAX_BYTES:
        raise UnreadableImageError(TOO_MANY_BYTES)
    try:
        return _decode(data)
    except UnreadableImageError:
        bare = _without_metadata(data)
        if bare == data:
            raise
        return _decode(bare)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image in any of Pillow's modes to 8-bit RGB.

    16-bit values are scaled, not clipped. Transparent images are drawn on white, for which they are usually made.

    Raises:
        UnreadableImageError: The range of the pixel values is unknown.
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


def _decode(data: bytes) -> Image.Image:
    if _webp_bytes(data) > MAX_DECODING_BYTES:
        raise UnreadableImageError(TOO_MUCH_MEMORY)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(TOO_MANY_PIXELS) from error
    except Exception as error:  # on damaged data Pillow's parsers raise nearly anything
        raise UnreadableImageError(NOT_AN_IMAGE) from error
    try:
        needed = _decoding_bytes(image)
        if needed > MAX_DECODING_BYTES:
            raise UnreadableImageError(TOO_MUCH_MEMORY)
        with _memory.reserved(needed):
            image.load()
            orientation = _orientation(image)
            picture = _reduced_to_rgb(image)
    except UnreadableImageError:
        raise
    except MemoryError as error:
        raise UnreadableImageError(TOO_MUCH_MEMORY) from error
    except Exception as error:
        raise UnreadableImageError(DAMAGED) from error
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def _decoding_bytes(image: Image.Image) -> int:
    """Return the most memory that `image.load()` takes, from the header; Pillow's pixels take up to 4 bytes each.

    A JPEG is first set to be decoded at an eighth to the whole of its size. `make bench-serving` measures the factors.
    """
    pixels = image.width * image.height
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # libjpeg holds the 16-bit coefficients of all scans of a progressive image, at full size.
        coefficients = 2 * image.layers * pixels if "progressive" in image.info else 0
        image.draft(None, (LEAST_SIDE, LEAST_SIDE))
        return coefficients + 4 * image.width * image.height
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return WEBP_BYTES_PER_PIXEL * pixels
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        turned = _orientation(image) in UPRIGHT  # Pillow turns it at full size
        return 4 * pixels * (2 if turned else 1) + _segment_bytes(image)
    return 4 * pixels


def _webp_bytes(data: bytes) -> int:
    """Return the memory that a WebP takes, or 0 for another file: `Image.open` already reserves the canvases."""
    if not (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return 0
    width, height = WebPImagePlugin._get_size(data[:30]) or (0, 0)
    return WEBP_BYTES_PER_PIXEL * width * height


def _segment_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """Return the size of a decompressed strip or tile, which libtiff decodes at once."""
    tags = image.tag_v2
    width = tags.get(TiffImagePlugin.TILEWIDTH, image.width)
    length = tags.get(TiffImagePlugin.TILELENGTH) or min(
        tags.get(TiffImagePlugin.ROWSPERSTRIP, image.height), max(image.size)
    )
    bits = max(sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))), 32)
    return int(width * length * bits // 8)


def _orientation(image: Image.Image) -> int | None:
    """Return the EXIF tag, or None if it is missing or unreadable: bad metadata does not make an image unreadable."""
    with suppress(Exception):  # as Image.open
        value = image.getexif().get(ORIENTATION)
        return value if isinstance(value, int) else None
    return None


def _reduced_to_rgb(image: Image.Image) -> Image.Image:
    """Convert `image` to RGB, with each side divided by the whole number that leaves at least LEAST_SIDE.

    The conversion makes several copies, so it handles one tile of the image at a time.
    """
    across, down = (max(1, side // LEAST_SIDE) for side in image.size)
    reduced = Image.new("RGB", (math.ceil(image.width / across), math.ceil(image.height / down)))
    side = max(1, math.isqrt(TILE_PIXELS // (across * down)))
    for top in range(0, reduced.height, side):
        for left in range(0, reduced.width, side):
            right, bottom = min((left + side) * across, image.width), min((top + side) * down, image.height)
            tile = to_rgb(image.crop((left * across, top * down, right, bottom)))
            reduced.paste(tile.reduce((across, down)), (left, top))
    return reduced


def _without_metadata(data: bytes) -> bytes:
    """Return a PNG or JPEG with only its pixels and orientation, and any other file unchanged.

    For files that Pillow refuses because of their metadata: large text or colour profiles, as image generators write
    them, or EXIF values of the wrong type.
    """
    if data.startswith(PNG_SIGNATURE):
        return _bare_png(data)
    if data.startswith(JPEG_SIGNATURE):
        return _bare_jpeg(data)
    return data


def _bare_png(data: bytes) -> bytes:
    kept, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length  # length, kind, data, checksum
        if kind not in PNG_METADATA:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _bare_jpeg(data: bytes) -> bytes:
    kept, start = [JPEG_SIGNATURE], len(JPEG_SIGNATURE)
    while start + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, start)
        if marker == JPEG_SCAN or marker < JPEG_FIRST_MARKER:
            break
        segment = data[start : start + 2 + length]
        if marker not in JPEG_METADATA:
            kept.append(segment)
        elif segment[4:10] == EXIF_SIGNATURE:
            kept.append(_orientation_alone(segment[4:]))
        start += len(segment)
    return b"".join(kept) + data[start:]


def _orientation_alone(exif: bytes) -> bytes:
    read, kept = Image.Exif(), Image.Exif()
    with suppress(Exception):  # as Image.open
        read.load(exif)
        kept[ORIENTATION] = int(read[ORIENTATION])
    content = kept.tobytes()
    return struct.pack(">HH", JPEG_APP1, len(content) + 2) + content
