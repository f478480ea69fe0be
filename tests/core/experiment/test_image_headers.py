"""Headers of JPEGs, and of images by any name; PNG and PPM are tested with the flow files beside them too."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deq_core.experiment.image_contents import whole_pixels
from deq_core.experiment.image_headers import image_size
from deq_core.experiment.images import FileFormatError, read_image


@pytest.fixture
def path(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    place = tmp_path / "a.JPEG"
    place.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())
    return place


def test_the_size_is_that_of_the_pixels(path: Path) -> None:
    assert image_size(path) == (21, 34)


@pytest.mark.parametrize("options", [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]])
def test_other_kinds_of_jpeg_are_read_too(path: Path, options: list[int]) -> None:
    path.write_bytes(cv2.imencode(".jpg", np.zeros((9, 5, 3), np.uint8), options)[1].tobytes())
    assert image_size(path) == (9, 5)


def test_bytes_behind_the_end_and_comments_before_the_pixels_are_allowed(path: Path) -> None:
    content = path.read_bytes()
    comment = b"\xff\xff\xfe" + (2 + 5).to_bytes(2, "big") + b"hello"  # with a fill byte
    path.write_bytes(content[:2] + comment + content[2:] + b"appended by a camera")
    assert image_size(path) == (21, 34)


def test_a_file_is_not_whole_at_any_shorter_length(path: Path) -> None:
    content = path.read_bytes()
    for length in [*range(0, len(content) - 1, 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"a\.JPEG: expected .*; copy or unpack the file again"):
            image_size(path)


def test_a_file_of_another_kind_is_not_whole(path: Path) -> None:
    for content in (b"<html>Please log in</html>", b"GIF89a" + bytes(20), b"\x89PNG", b""):
        path.write_bytes(content)
        message = rf"a\.JPEG: expected a PNG, a JPEG or a binary PPM file, got {len(content)} bytes that begin with b'"
        with pytest.raises(FileFormatError, match=message):
            image_size(path)


@pytest.mark.parametrize("kind", [".png", ".ppm", ".jpg"])
@pytest.mark.parametrize("suffix", [".JPEG", ".png", ".ppm", ""])
def test_the_kind_is_that_of_the_content_not_of_the_name(path: Path, kind: str, suffix: str) -> None:
    place = path.with_suffix(suffix)
    content = cv2.imencode(kind, np.zeros((9, 5, 3), np.uint8))[1].tobytes()
    place.write_bytes(content)
    assert image_size(place) == (9, 5) == read_image(place).shape[1:] == whole_pixels(place).shape[:2]
    place.write_bytes(content[:-5])
    with pytest.raises(FileFormatError, match=rf"{place.name}: expected .*; copy or unpack the file again"):
        image_size(place)


def test_a_jpeg_of_four_inks_has_its_size_and_the_three_colours(path: Path) -> None:
    y, x = np.mgrid[:21, :34]
    colours, file = np.stack([7 * x, 9 * y, 4 * (x + y)], axis=-1).astype(np.uint8), BytesIO()
    Image.fromarray(colours).convert("CMYK").save(file, "JPEG", quality=95)
    path.write_bytes(file.getvalue())
    assert image_size(path) == (21, 34)
    for pixels in (read_image(path).permute(1, 2, 0).numpy(), whole_pixels(path)[:, :, ::-1]):
        assert pixels.shape == (21, 34, 3)
        assert np.abs(pixels.astype(int) - colours).mean() < 2
