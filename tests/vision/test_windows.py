"""Windows, mirror images and scales: what they give is what the network gives, where it sees all it needs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deq_vision.finite import NO_CLASS
from deq_vision.windows import (
    cityscapes_test,
    full_size,
    mirrored,
    pixel_classes,
    several_scales,
    sliding,
    starts,
    unreduced_classes,
)

IMAGES = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MIX = torch.randn(5, 3, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
BLUR = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def pixelwise(images: Tensor) -> Tensor:
    """Sees one pixel at a time."""
    return F.conv2d(images, MIX)


def blurred(images: Tensor) -> Tensor:
    """Sees neighbours too, and so where windows end."""
    return F.conv2d(images, BLUR, padding=1)


@pytest.mark.parametrize("window", [(5, 8), (30, 30), (12, 9)])
def test_windows_of_a_pixelwise_network_give_what_the_whole_image_gives(window: tuple[int, int]) -> None:
    torch.testing.assert_close(sliding(pixelwise, window)(IMAGES), pixelwise(IMAGES))


def test_where_windows_overlap_their_logits_are_averaged() -> None:
    found = sliding(blurred, (12, 16))(IMAGES)  # columns 0 to 15, then 4 to 19
    left, right = blurred(IMAGES[..., :16]), blurred(IMAGES[..., 4:])
    torch.testing.assert_close(found[..., :4], left[..., :4])
    torch.testing.assert_close(found[..., 4:16], (left[..., 4:] + right[..., :12]) / 2)
    torch.testing.assert_close(found[..., 16:], right[..., 12:])


@pytest.mark.parametrize(("length", "expected"), [(10, [0]), (8, [0]), (20, [0, 10]), (25, [0, 10, 15]), (12, [0, 2])])
def test_windows_cover_every_pixel_and_pass_no_edge(length: int, expected: list[int]) -> None:
    assert starts(length, 10) == expected


def test_mirroring_makes_a_network_blind_to_left_and_right() -> None:
    found = mirrored(blurred)
    torch.testing.assert_close(found(IMAGES.flip(-1)), found(IMAGES).flip(-1))
    assert not torch.allclose(blurred(IMAGES.flip(-1)), blurred(IMAGES).flip(-1))


def test_logits_are_brought_to_the_size_of_the_images() -> None:
    def coarse(images: Tensor) -> Tensor:
        return pixelwise(images)[:, :, ::4, ::4]

    found = full_size(coarse)(IMAGES)
    expected = F.interpolate(coarse(IMAGES), size=(12, 20), mode="bilinear", align_corners=False)
    assert torch.equal(found, expected)


def test_one_scale_of_one_changes_nothing_and_two_scales_add_up() -> None:
    torch.testing.assert_close(several_scales(blurred, [1.0])(IMAGES), blurred(IMAGES))
    constant = torch.ones_like(IMAGES)
    torch.testing.assert_close(several_scales(pixelwise, [0.5, 1.0, 1.5])(constant), 3 * pixelwise(constant))


def test_the_test_of_cityscapes_finds_the_classes_of_the_logits() -> None:
    found = cityscapes_test(blurred, window=(12, 20))(IMAGES)
    assert torch.equal(found.argmax(dim=1), blurred(IMAGES).argmax(dim=1))
    several = cityscapes_test(blurred, window=(12, 20), scales=(0.5, 1.0, 2.0), mirror=True)(IMAGES)
    assert several.shape == (2, 5, 12, 20)
    assert (several > 0).all()


@pytest.mark.parametrize("size", [(24, 40), (60, 100)])
def test_classes_of_a_reduced_picture_are_those_of_its_enlarged_scores(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # some are equal
    scores = F.interpolate(logits, (32, 48), mode="bilinear")[:, :, :24, :40]
    found = unreduced_classes(logits, (32, 48), (24, 40), size)
    assert torch.equal(found, F.interpolate(scores, size, mode="bilinear").argmax(dim=1))
    if size == (24, 40):
        assert torch.equal(found, pixel_classes(logits, (32, 48))[:, :24, :40])
    logits[1, 3, 0, 0] = torch.nan
    found = unreduced_classes(logits, (32, 48), (24, 40), size)
    assert (found[0] != NO_CLASS).all()
    assert found[1, 0, 0] == NO_CLASS
