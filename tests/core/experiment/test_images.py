"""Pixels of image files: as they are stored, or as a person sees them."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from deq_core.experiment.data.image_headers import ORIENTATION, image_size, whole_size
from deq_core.experiment.data.images import FileFormatError, decode, read_image, read_mask
from deq_core.experiment.media.video import frames

OPTIONS = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def picture() -> np.ndarray:
    """Four areas that no turn leaves where they are, uint8 (24, 40, 3)."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:8, :16], pixels[8:, 32:], pixels[16:, :8] = (250, 30, 30), (30, 250, 30), (30, 30, 250)
    return pixels


def save(path: Path, kind: str, orientation: int, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    tags = ImageFileDirectory_v2()
    tags[ORIENTATION] = orientation
    how = {"tiffinfo": tags} if kind == "TIFF" else {"exif": exif}
    Image.fromarray(pixels).save(path, kind, **how, **OPTIONS[kind])


def close(image: torch.Tensor, pixels: np.ndarray) -> bool:
    """Whether they are of one size and differ by no more than a JPEG's rounding."""
    found = image.permute(1, 2, 0).numpy()
    return found.shape == pixels.shape and bool(np.abs(found.astype(int) - pixels).mean() < 2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", OPTIONS)
def test_pixels_and_sizes_are_as_stored_and_upright_where_that_is_asked_for(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    path = tmp_path / "a.jpg"
    save(path, kind, orientation, picture())
    assert close(read_image(path), picture())
    assert image_size(path) == whole_size(path) == (24, 40)
    seen = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    assert close(read_image(path, upright=True), np.asarray(seen))
    (frame,) = frames(path)
    assert torch.equal(frame, read_image(path, upright=True)), "a demo's picture is a person's"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_are_the_same_whatever_alpha_is_beside_them(tmp_path: Path, kind: str, orientation: int) -> None:
    path, alpha = tmp_path / "a.png", np.arange(24 * 40).reshape(24, 40, 1) % 255 + 1
    save(path, kind, orientation, picture())
    upright = read_image(path, upright=True)
    save(path, kind, orientation, np.concatenate([picture(), alpha], axis=2, dtype=np.uint8, casting="unsafe"))
    assert close(read_image(path), picture())
    assert torch.equal(read_image(path, upright=True), upright)


@pytest.mark.parametrize("alpha", ["assocalpha", "unassalpha", None])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_with_alpha_has_its_colours_or_is_refused(
    tmp_path: Path, dtype: type, planes: Literal["contig", "separate"], alpha: str | None
) -> None:
    path, factor = tmp_path / "a.tif", np.iinfo(dtype).max // 255
    pixels = np.dstack([picture(), np.full((24, 40), 100, np.uint8)]).astype(dtype) * factor
    if alpha is None:
        cv2.imwrite(str(path), pixels[:, :, [2, 1, 0, 3]])  # says nothing of what the fourth channel is
    else:
        stored = pixels if planes == "contig" else pixels.transpose(2, 0, 1)
        tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planes, extrasamples=[alpha])
    if (dtype, planes, alpha) == (np.uint16, "separate", "unassalpha"):
        with pytest.raises(FileFormatError, match=r"a\.tif: expected .* side by side, got planes of 16 bits"):
            read_image(path)
    else:
        assert close(read_image(path), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_and_labels_are_as_stored_too(tmp_path: Path, kind: str, orientation: int, dtype: type) -> None:
    path, labels = tmp_path / "a.png", np.arange(6 * 10).reshape(6, 10).astype(dtype)
    save(path, kind, orientation, labels)
    assert np.array_equal(decode(path, cv2.IMREAD_UNCHANGED), labels)
    save(path, kind, orientation, np.where(labels % 3, 0, 255).astype(np.uint8))
    assert torch.equal(read_mask(path), torch.from_numpy(labels % 3 == 0))


def test_a_damaged_file_leaves_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.webp"
    save(path, "WEBP", 1, picture())
    content = path.read_bytes()
    path.write_bytes(content[:30] + bytes(20) + content[50:])
    with pytest.raises(FileFormatError, match=r"a\.webp: expected"):
        read_image(path)
    assert capfd.readouterr().err == ""
