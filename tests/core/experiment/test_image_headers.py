"""JPEG headers; those of the other images are tested with the flow files beside them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deq_core.experiment.image_headers import image_size
from deq_core.experiment.images import FileFormatError


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
    path.write_bytes(b"<html>Please log in</html>" * 100)
    with pytest.raises(FileFormatError, match=r"a\.JPEG: expected a JPEG file, got b'<h'"):
        image_size(path)
    other = path.with_suffix(".gif")
    with pytest.raises(ValueError, match=r"expected one of \.png, \.ppm, \.jpg and \.jpeg, got '\.gif'"):
        image_size(other)
