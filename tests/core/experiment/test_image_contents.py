"""Image files that decode, but not to what was once in them."""

import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from deq_core.experiment.image_contents import whole_pixels
from deq_core.experiment.image_headers import image_size
from deq_core.experiment.images import FileFormatError, read_image

KINDS = {
    "plain": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarting": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "optimised": [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
}


def picture() -> np.ndarray:
    """Smooth colours with a little noise, uint8 (120, 200, 3)."""
    y, x = np.mgrid[:120, :200]
    noise = np.random.default_rng(0).integers(0, 24, (120, 200, 3))
    return (np.stack([x, y, 200 - x], axis=-1) + noise).astype(np.uint8)


def jpeg(kind: str) -> bytes:
    return cv2.imencode(".jpg", picture(), KINDS[kind])[1].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_jpeg_has_its_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(kind))
    assert np.abs(whole_pixels(path).astype(int) - picture()).mean() < 6
    path.write_bytes(cv2.imencode(".jpg", picture()[:, :, 0], KINDS[kind])[1].tobytes())
    assert whole_pixels(path).shape == (120, 200)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_was_overwritten_or_cut_off_and_still_decodes_is_damaged(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, content = tmp_path / "a.jpg", jpeg(kind)
    middle = len(content) // 2
    sector = np.random.default_rng(1).integers(0, 255, 512, dtype=np.uint8).tobytes()  # 255 begins markers
    for spoilt in (content[:middle] + sector + content[middle + 512 :], content[:middle] + b"\xff\xd9"):
        path.write_bytes(spoilt)
        assert image_size(path) == (120, 200), "its header and its end are whole"
        read_image(path)
        capfd.readouterr()
        with pytest.raises(FileFormatError, match=r"a\.jpg: expected pixels that decode without a fault, got 'Corrupt"):
            whole_pixels(path)
        assert capfd.readouterr().err == "", "libjpeg's line is in our error"


def test_a_png_that_was_overwritten_does_not_decode(tmp_path: Path) -> None:
    path, content = tmp_path / "a.png", cv2.imencode(".png", picture())[1].tobytes()
    path.write_bytes(content)
    assert np.array_equal(whole_pixels(path), picture())
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(FileFormatError, match=r"a\.png: expected a complete \.png file"):
        whole_pixels(path)


def test_stderr_is_the_process_s_own_afterwards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jpg"
    for content in (jpeg("plain"), b"no image"):
        path.write_bytes(content)
        with suppress(FileFormatError):
            whole_pixels(path)
        os.write(2, b"here\n")
        assert capfd.readouterr().err == "here\n"


def test_a_progressive_jpeg_that_ends_between_two_scans_is_a_whole_file_with_less_detail(tmp_path: Path) -> None:
    """What no decoder can tell: the page says so."""
    path, content = tmp_path / "a.jpg", jpeg("progressive")
    path.write_bytes(content)
    whole = whole_pixels(path)
    path.write_bytes(content[: content.rindex(b"\xff\xda")] + b"\xff\xd9")
    assert whole_pixels(path).shape == whole.shape
    assert not np.array_equal(whole_pixels(path), whole)
