"""What image files say of themselves: sizes as stored, damage, and pixels that a small file only promises."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deq_core.experiment.data.image_headers import ANY_PIXELS, FORMATS, image_size, whole_size
from deq_core.experiment.data.images import FileFormatError, read_image, read_mask

NOISE = np.random.default_rng(0).integers(0, 256, (21, 32, 3), dtype=np.uint8)


def stored(kind: str, pixels: np.ndarray = NOISE, **options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.JPEG"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", [".JPEG", ".png", ""])
def test_the_kind_is_that_of_the_content_not_of_the_name(path: Path, kind: str, suffix: str) -> None:
    place = path.with_suffix(suffix)
    place.write_bytes(stored(kind))
    sizes = image_size(place), whole_size(place), whole_size(place, decoded=True), tuple(read_image(place).shape[1:])
    assert set(sizes) == {(21, 32)}


@pytest.mark.parametrize("options", [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]])
def test_other_kinds_of_jpeg_are_read_too(path: Path, options: list[int]) -> None:
    path.write_bytes(cv2.imencode(".jpg", np.zeros((9, 5, 3), np.uint8), options)[1].tobytes())
    assert whole_size(path, decoded=True) == (9, 5)


def test_bytes_behind_the_end_and_comments_before_the_pixels_are_allowed(path: Path) -> None:
    content = stored("JPEG")
    comment = b"\xff\xff\xfe" + (2 + 5).to_bytes(2, "big") + b"hello"  # with a fill byte
    path.write_bytes(content[:2] + comment + content[2:] + b"appended by a camera")
    assert whole_size(path, decoded=True) == (21, 32) == read_image(path).shape[1:]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_is_not_whole_at_any_shorter_length(path: Path, kind: str) -> None:
    content = stored(kind)
    for length in [*range(0, len(content) - 1, 37), len(content) - 5, len(content) - 1]:
        path.write_bytes(content[:length])
        for read in (whole_size, read_image):
            with pytest.raises(FileFormatError, match=r"a\.JPEG: expected .*; copy or unpack the file again"):
                read(path)


def test_a_small_picture_in_the_header_of_a_jpeg_does_not_end_it(path: Path) -> None:
    content, small = stored("JPEG"), stored("JPEG", NOISE[:8, :8])
    within = b"\xff\xe1" + (2 + len(small)).to_bytes(2, "big") + small
    path.write_bytes(content[:2] + within + content[2:])
    assert whole_size(path) == (21, 32)
    path.write_bytes(content[:2] + within + content[2:-20])
    with pytest.raises(FileFormatError, match="expected the end of a JPEG file"):
        whole_size(path)


def test_a_png_that_was_overwritten_is_not_whole(path: Path) -> None:
    content = stored("PNG")
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert image_size(path) == (21, 32)
    with pytest.raises(FileFormatError, match=r"a\.JPEG: expected a whole image, got \d+ bytes of which Pillow says"):
        whole_size(path)


def test_a_part_of_a_png_that_says_it_is_huge_takes_no_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = stored("PNG")
    place = content.index(b"IDAT") - 4
    path.write_bytes(content[:place] + struct.pack(">I", 2**31 - 1) + content[place + 4 :])
    monkeypatch.setattr(cv2, "imdecode", None)  # which would take it
    for read in (whole_size, read_image, read_mask):
        with pytest.raises(FileFormatError, match=r"a\.JPEG: expected a whole image"):
            read(path)


def test_a_jpeg_that_was_overwritten_is_mostly_noticed_by_decoding_it(path: Path) -> None:
    y, x = np.mgrid[:240, :320]
    content = stored("JPEG", (np.stack([x, y, x + y], axis=-1) % 256).astype(np.uint8), quality=95)
    rng, noticed = np.random.default_rng(1), 0
    for _ in range(40):
        at = int(rng.integers(len(content) // 4, 3 * len(content) // 4))
        path.write_bytes(content[:at] + rng.bytes(512) + content[at + 512 :])
        assert whole_size(path) == (240, 320)
        try:
            whole_size(path, decoded=True)
        except FileFormatError:
            noticed += 1
    assert noticed >= 10


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"GIF89a" + bytes(20), b"\x89PNG", b""])
def test_a_file_of_another_kind_says_how_it_begins(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read in (image_size, whole_size, read_image):
        with pytest.raises(FileFormatError, match=rf"a\.JPEG: expected a BMP, .* file, got {len(content)} bytes that "):
            read(path)


@pytest.mark.parametrize("shape", [(21, 32), (21, 32, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_tiff_with_other_samples_is_not_called_incomplete(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    path.write_bytes(cv2.imencode(".tiff", np.ones(shape, dtype))[1].tobytes())
    got = "32 bits, integers or floating point; convert it to 8 bits" if len(shape) == 2 else "[0-9]* bytes that begin"
    for read in (image_size, whole_size, read_image, read_mask):
        with pytest.raises(FileFormatError, match=f"a whole TIFF with integer samples of at most 16 bits, got {got}"):
            read(path)


def test_only_the_kinds_that_are_asked_for_are_whole(path: Path) -> None:
    path.write_bytes(stored("JPEG"))
    with pytest.raises(FileFormatError, match=r"a\.JPEG: expected a PNG file, got \d+ bytes that begin with b"):
        whole_size(path, formats=("PNG",))


def png(width: int, height: int) -> bytes:
    """One grey bit a pixel, all of them black: a few kB however large."""
    chunks = [
        (b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])),
        (b"IDAT", zlib.compress(bytes((1 + width // 8) * height), 9)),
        (b"IEND", b""),
    ]
    parts = [len(data).to_bytes(4, "big") + k + data + zlib.crc32(k + data).to_bytes(4, "big") for k, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(width: int, height: int) -> bytes:
    content = stored("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[place + 4 :]


def ppm(width: int, height: int) -> bytes:
    return f"P5 {width} {height} 255\n".encode() + bytes(64)


def bmp(width: int, height: int) -> bytes:
    content = stored("BMP")
    return content[:18] + width.to_bytes(4, "little") + height.to_bytes(4, "little") + content[26:]


def webp(width: int, height: int) -> bytes:
    content = stored("WEBP")
    return content[:26] + struct.pack("<HH", min(width, 16383), min(height, 16383)) + content[30:]


@pytest.mark.parametrize("make", [png, jpeg, ppm, bmp, webp])
@pytest.mark.parametrize("read", [image_size, whole_size, read_image, read_mask])
def test_a_small_file_of_very_many_pixels_is_refused_by_its_header(
    path: Path, make: Callable[[int, int], bytes], read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)  # is never called
    for side in (4000, 14000):
        path.write_bytes(make(side, side))
        with pytest.raises(FileFormatError, match=r"a\.JPEG: .*pixels.* reduce (it|the image) first"):
            read(path)


def test_the_pixels_of_any_image_are_a_photograph_s(path: Path) -> None:
    path.write_bytes(png(4096, ANY_PIXELS // 4096))
    assert path.stat().st_size < 20_000
    assert read_mask(path).shape == (3072, 4096)


def test_a_tile_larger_than_its_tiff_counts(path: Path) -> None:
    rows, tile = (struct.pack("<HHI", tag, 4, 1) for tag in (0x116, 0x142))
    content = stored("TIFF", tiffinfo={0x116: 21})
    assert rows in content
    place = content.index(rows)
    path.write_bytes(content[:place] + tile + struct.pack("<I", 10**9) + content[place + 12 :])
    with pytest.raises(FileFormatError, match="got 1000000000, 32x21"):
        read_image(path)
