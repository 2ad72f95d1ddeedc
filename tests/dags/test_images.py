import io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from image_classifier import images
from image_classifier.images import UnreadableImageError, decode, to_tensor

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "dags")}


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


def test_an_image_becomes_a_uint8_tensor_of_the_requested_size() -> None:
    tensor = to_tensor(saved(Image.new("RGB", (9, 5), (10, 20, 30))), 32)
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == torch.uint8
    assert tensor[:, 0, 0].tolist() == [10, 20, 30]


def test_transparency_is_drawn_on_white() -> None:
    assert first_pixel(saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))) == (255, 255, 255)
    assert first_pixel(saved(Image.new("RGBA", (4, 4), (255, 0, 0, 255)))) == (255, 0, 0)
    assert first_pixel(saved(Image.new("LA", (4, 4), (0, 0)))) == (255, 255, 255)


def test_a_transparent_palette_colour_is_drawn_on_white() -> None:
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_is_upright_as_pillow_turns_it(kind: str, orientation: int) -> None:
    corner = Image.new("RGB", (64, 32), "blue")
    corner.paste("red", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(corner, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(np.array(decode(data)), np.array(expected))


def exif_of(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of tags given as number, type, count and four bytes of value or offset, however wrong."""
    tags = b"".join(struct.pack("<HHI", *tag) + value.ljust(4, b"\0") for *tag, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4)


TURNED = (274, 3, 1, b"\x06\0")  # by 90 degrees
ODD_EXIF = {
    "resolution as text": exif_of(TURNED, (282, 5, 1, b"\x08"), (283, 2, 4, b"72")),
    "resolution of no value": exif_of(TURNED, (282, 5, 0, b""), (296, 3, 1, b"\x02")),
    "resolution of one number": exif_of(TURNED, (282, 3, 1, b"\x48"), (283, 3, 1, b"\x48")),
    "count beyond the file": exif_of(TURNED, (283, 5, 2**31, b"\xff\xff")),
    "unknown type": exif_of(TURNED, (283, 99, 1, b"\x01")),
    "GPS as text": exif_of(TURNED, (34853, 2, 4, b"abc")),
    "a loop of directories": exif_of(TURNED, (34665, 4, 1, b"\x08")),
}


@pytest.mark.parametrize("jfif", [True, False], ids=["with JFIF", "without JFIF"])
@pytest.mark.parametrize("odd", ODD_EXIF)
def test_a_photograph_with_odd_exif_is_turned_upright(odd: str, jfif: bool) -> None:
    data = saved(Image.new("RGB", (8, 4), "red"), "JPEG", exif=ODD_EXIF[odd])
    if not jfif:  # Pillow then takes the resolution from EXIF, already when it opens the file
        header = data.index(b"\xff\xe0")
        data = data[:header] + data[header + 2 + struct.unpack_from(">H", data, header + 2)[0] :]
    assert decode(data).size == (4, 8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("odd", ODD_EXIF)
def test_a_picture_of_another_format_with_odd_exif_is_turned_upright(odd: str, kind: str) -> None:
    assert decode(saved(Image.new("RGB", (8, 4), "red"), kind, exif=ODD_EXIF[odd])).size == (4, 8)


def test_invalid_exif_leaves_the_picture_unchanged() -> None:
    assert decode(saved(Image.new("RGB", (8, 4)), "JPEG", exif=b"Exif\0\0garbage")).size == (8, 4)
    assert decode(saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif_of((274, 2, 2, b"6")))).size == (8, 4)


def metadata(kind: str, size: int) -> dict[str, Any]:
    text = PngImagePlugin.PngInfo()
    if kind == "iCCP":
        return {"icc_profile": bytes(size)}
    if kind == "iTXt":
        text.add_itxt("workflow", "ä" * (size // 2), zip=True)
    elif kind == "many":
        for number in range(size // 10_000):
            text.add_text(f"prompt {number}", "x" * 10_000)
    else:
        text.add_text("workflow", "x" * size, zip=kind == "zTXt")
    return {"pnginfo": text}


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iCCP", "many"])
def test_a_png_with_large_metadata_is_read_like_any_other(kind: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(Image.new("RGB", (40, 20), "red"), exif=exif, **metadata(kind, 2_000_000))
    picture = decode(data)
    assert picture.size == (20, 40)
    assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_compressed_text_is_not_a_decompression_bomb() -> None:
    text = PngImagePlugin.PngInfo()
    for number in range(20):
        text.add_text(f"bomb {number}", "x" * 30_000_000, zip=True)
    data = saved(Image.new("RGB", (40, 20)), pnginfo=text)
    tracemalloc.start()
    decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_large_picture_is_reduced_to_what_it_looks_like(mode: str) -> None:
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8))
    small = colours.convert("L").convert("I;16").point(lambda value: value * 257) if mode == "I;16" else colours
    large = small.convert(mode).resize((7 * 450, 5 * 450), Image.Resampling.NEAREST)
    picture = decode(saved(large, "TIFF", compression="tiff_deflate"))
    assert picture.size == (1050, 1125)
    expected = images.to_rgb(large).resize(picture.size, Image.Resampling.BOX)
    assert np.abs(np.array(picture, dtype=int) - np.array(expected, dtype=int)).mean() < 2


def test_a_very_long_picture_is_reduced_only_in_its_length() -> None:
    assert decode(saved(Image.new("L", (40_000, 3)))).size == (1026, 3)


@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [
        ("WEBP", (5000, 5000), {}),
        ("WEBP", (5000, 5000), {"lossless": True}),
        ("WEBP", (16_000, 2_000), {"exif": Image.Exif()}),
        ("JPEG", (50_000, 1000), {"progressive": True}),
        ("TIFF", (7000, 7000), {"compression": "tiff_deflate", "strip_size": 2**30}),
    ],
)
def test_a_picture_whose_decoder_needs_too_much_memory_is_refused(
    kind: str, size: tuple[int, int], options: dict[str, Any]
) -> None:
    with pytest.raises(UnreadableImageError, match=images.TOO_MUCH_MEMORY):
        decode(saved(Image.new("RGB", size), kind, **options))


PHOTOGRAPH = (8000, 6000)  # 48 megapixels
PHOTOGRAPHS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "PNG": ("RGBA", "PNG", {"compress_level": 1}),
    "16-bit PNG": ("I;16", "PNG", {"compress_level": 1}),
    "palette with transparency": ("P", "PNG", {"transparency": 0}),
    "GIF": ("P", "GIF", {}),
    "TIFF": ("RGBA", "TIFF", {"compression": "tiff_deflate"}),
    "CMYK": ("CMYK", "JPEG", {}),
}
DECODE_AND_PRINT_PEAK = """
import sys
from pathlib import Path
from image_classifier.images import decode

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

data = sys.stdin.buffer.read()
before = peak()
assert max(decode(data).size) < 2048
print(peak() - before)
"""


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_a_photograph_of_48_megapixels_is_decoded_within_the_memory_limit(photograph: str) -> None:
    mode, kind, options = PHOTOGRAPHS[photograph]
    data = saved(Image.new(mode, PHOTOGRAPH), kind, **options)
    done = subprocess.run(
        [sys.executable, "-c", DECODE_AND_PRINT_PEAK], input=data, env=ENVIRONMENT, capture_output=True, check=True
    )
    assert int(done.stdout) < images.MAX_DECODING_BYTES + 32 * 2**20


def test_threads_decode_only_as_much_at_once_as_memory_allows() -> None:
    budget = images.MemoryBudget(10)
    held: list[int] = []
    peaks: list[int] = []

    def hold(size: int) -> None:
        with budget.reserved(size):
            held.append(size)
            peaks.append(sum(held))
            time.sleep(0.01)
            held.remove(size)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [4, 10, 3, 3, 6, 10, 1, 9, 5, 5]))
    assert max(peaks) <= 10
    assert len(peaks) == 10


def test_of_an_animation_the_first_frame_is_used() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert first_pixel(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_an_empty_file_is_reported_as_empty() -> None:
    with pytest.raises(UnreadableImageError, match=images.EMPTY):
        decode(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_reported_as_damaged(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(UnreadableImageError):
        decode(data[: len(data) // 2])


def test_a_png_without_bytes_of_its_middle_is_reported_as_damaged() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise))
    with pytest.raises(UnreadableImageError, match=images.DAMAGED):
        decode(data[:2000] + data[4000:])


def test_a_text_file_is_not_an_image() -> None:
    with pytest.raises(UnreadableImageError, match=images.NOT_AN_IMAGE):
        decode(b"hello")


def test_a_postscript_file_never_starts_another_program() -> None:
    with pytest.raises(UnreadableImageError, match=images.NOT_AN_IMAGE):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (30_000, 30_000), (1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_from_its_header(width: int, height: int) -> None:
    with pytest.raises(UnreadableImageError, match=images.TOO_MANY_PIXELS):
        decode(png_of_header_only(width, height))


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match=images.TOO_MANY_BYTES):
        decode(b"\0" * (images.MAX_BYTES + 1))


def test_values_of_unknown_range_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="no known range"):
        decode(saved(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF"))
