"""Colour changes: they mean what they mean in Pillow and torchvision, which the release uses."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from deq_flow.data.colour import ColourConfig, Jitter, jitter_pair

NEUTRAL = ColourConfig(brightness=0, contrast=0, saturation=0, hue=0)


def colourful(h: int = 40, w: int = 50) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_colour_factors_mean_what_they_mean_in_pillow(name: str, enhancer: type, factor: float) -> None:
    ours = replace(Jitter(1.0, 1.0, 1.0, 0.0), **{name: factor})(colourful()).astype(int)
    theirs = np.asarray(enhancer(Image.fromarray(colourful())).enhance(factor)).astype(int)
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("turn", [-0.15, 0.1, 0.5])
def test_hue_means_what_it_means_in_torchvision(turn: float) -> None:
    """There, the hue of Pillow's 8-bit HSV image is moved by turn * 255, so a few grey levels are rounding."""
    hsv = np.asarray(Image.fromarray(colourful()).convert("HSV")).copy()
    hsv[:, :, 0] += np.array(turn * 255).astype(np.int32).astype(np.uint8)
    theirs = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")).astype(int)
    ours = Jitter(1.0, 1.0, 1.0, turn)(colourful()).astype(int)
    assert np.abs(ours - theirs).mean() < 2
    assert np.abs(ours - colourful()).mean() > 10


def test_the_order_of_colour_changes_matters_and_is_drawn() -> None:
    forwards, backwards = (Jitter(1.4, 0.6, 1.4, 0.1, order)(colourful()) for order in ((0, 1, 2, 3), (3, 2, 1, 0)))
    assert np.abs(forwards.astype(int) - backwards).max() > 3


def test_frames_change_colour_alike_unless_asymmetric() -> None:
    image = colourful()
    rng = np.random.default_rng(3)
    first, second = jitter_pair(image, image, rng, ColourConfig(asymmetric_chance=0.0))
    np.testing.assert_array_equal(first, second)
    assert (first != image).any()
    first, second = jitter_pair(image, image, rng, ColourConfig(asymmetric_chance=1.0))
    assert (first != second).any()


def test_neutral_colours_are_the_identity() -> None:
    np.testing.assert_array_equal(
        jitter_pair(colourful(), colourful(), np.random.default_rng(0), NEUTRAL)[0], colourful()
    )


def test_colour_settings_are_checked_when_made() -> None:
    with pytest.raises(ValueError, match=r"hue must be in \[0, 0.5\], got 0.6"):
        ColourConfig(hue=0.6)
    with pytest.raises(ValueError, match="contrast must not be negative"):
        ColourConfig(contrast=-0.1)
