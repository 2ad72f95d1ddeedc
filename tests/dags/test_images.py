import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from image_classifier import images
from image_classifier.images import UnreadableImageError, decode, to_tensor


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of_header_only(width: int, height: int) -> bytes:
    """A valid PNG header that promises far more than the few bytes behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def first_pixel(data: bytes) -> tuple[int, ...]:
    pixel = decode(data).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_an_image_becomes_a_uint8_tensor_of_the_wanted_size() -> None:
    tensor = to_tensor(saved(Image.new("RGB", (9, 5), (10, 20, 30))), 32)
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == torch.uint8
    assert tensor[:, 0, 0].tolist() == [10, 20, 30]


def test_transparency_is_laid_on_white() -> None:
    assert first_pixel(saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))) == (255, 255, 255)
    assert first_pixel(saved(Image.new("RGBA", (4, 4), (255, 0, 0, 255)))) == (255, 0, 0)
    assert first_pixel(saved(Image.new("LA", (4, 4), (0, 0)))) == (255, 255, 255)


def test_a_transparent_palette_colour_is_laid_on_white() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([9, 9, 9, 200, 0, 0])
    assert first_pixel(saved(picture, transparency=0)) == (255, 255, 255)
    assert first_pixel(saved(picture)) == (9, 9, 9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_values_are_scaled_and_not_clipped(kind: str) -> None:
    values = np.array([[0, 1000, 32896, 65535]], dtype=np.uint16)
    picture = decode(saved(Image.fromarray(values), kind))
    assert np.array(picture)[0, :, 0].tolist() == [0, 4, 128, 255]


def test_cmyk_and_grayscale_become_rgb() -> None:
    assert first_pixel(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "JPEG")) == (0, 0, 0)
    assert first_pixel(saved(Image.new("L", (4, 4), 77))) == (77, 77, 77)
    assert first_pixel(saved(Image.new("1", (4, 4), 1))) == (255, 255, 255)


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned by 90 degrees
    assert decode(saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


def test_an_animation_counts_by_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert first_pixel(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_an_empty_file_is_named_so() -> None:
    with pytest.raises(UnreadableImageError, match=images.EMPTY):
        decode(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_named_so(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(UnreadableImageError):
        decode(data[: len(data) // 2])


def test_bytes_cut_from_the_middle_of_a_png_are_noticed() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise))
    with pytest.raises(UnreadableImageError, match=images.DAMAGED):
        decode(data[:2000] + data[4000:])


def test_a_text_file_is_not_an_image() -> None:
    with pytest.raises(UnreadableImageError, match=images.NOT_AN_IMAGE):
        decode(b"hello")


def test_a_postscript_file_is_never_handed_to_another_program() -> None:
    with pytest.raises(UnreadableImageError, match=images.NOT_AN_IMAGE):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (30_000, 30_000), (1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_from_its_header(width: int, height: int) -> None:
    with pytest.raises(UnreadableImageError, match=images.TOO_MANY_PIXELS):
        decode(png_of_header_only(width, height))


def test_a_file_of_too_many_bytes_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match=images.TOO_MANY_BYTES):
        decode(b"\0" * (images.MAX_BYTES + 1))


def test_values_of_unknown_range_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="no known range"):
        decode(saved(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF"))
