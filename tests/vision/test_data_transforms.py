"""Augmentation: every pixel stays beside its neighbours, and labels and boxes stay on what they describe."""

import numpy as np
import pytest
import torch
from torch import Tensor

from deq_vision.data.samples import IGNORE_INDEX, AnnotatedImage, LabelledImage, Objects, SegmentedImage
from deq_vision.data.scenes import (
    AugmentAnnotated,
    AugmentSegmented,
    Placement,
    SceneAugment,
    fitted,
    place_image,
    place_labels,
    place_objects,
    random_placement,
    random_scale,
)
from deq_vision.data.transforms import (
    CIFAR,
    IMAGENET,
    Augment,
    CropFlip,
    Normalisation,
    ResizedCrop,
    centre_crop,
    crop_flip,
    random_part,
    resize,
    resized_crop,
)


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, (3, *size), dtype=np.uint8))


def ramp(height: int, width: int) -> Tensor:
    """Red is the column, green the row."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0] = torch.arange(width)
    image[1] = torch.arange(height)[:, None]
    return image


@pytest.mark.parametrize("normalisation", [CIFAR, IMAGENET])
def test_normalising_gives_known_values(normalisation: Normalisation) -> None:
    black = normalisation.apply(torch.zeros(2, 3, 1, 1, dtype=torch.uint8))
    assert black.shape == (2, 3, 1, 1)
    assert black[0, 2, 0, 0] == pytest.approx(-normalisation.mean[2] / normalisation.std[2])


def test_a_crop_of_the_padded_image_is_the_image_shifted() -> None:
    image = noise(8, 10)
    shifts = set()
    for seed in range(200):
        found = crop_flip(image, CropFlip(padding=2, flip_chance=0.0), np.random.default_rng(seed))
        padded = torch.nn.functional.pad(image, [2] * 4)
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 8, x : x + 10], found)]
        assert len(places) == 1
        shifts.update(places)
    assert shifts == {(y, x) for y in range(5) for x in range(5)}


def test_half_of_the_images_are_mirrored() -> None:
    image = noise(4, 6)
    mirrored = [
        torch.equal(crop_flip(image, CropFlip(padding=0), np.random.default_rng(seed)), image.flip(-1))
        for seed in range(400)
    ]
    assert 160 < sum(mirrored) < 240


def test_a_resized_crop_is_a_part_of_the_image_of_the_size_asked_for() -> None:
    image = ramp(100, 200)
    config = ResizedCrop(size=32, flip_chance=0.0)
    for seed in range(50):
        found = resized_crop(image, config, np.random.default_rng(seed)).float()
        assert found.shape == (3, 32, 32)
        columns, rows = found[0].mean(dim=0), found[1].mean(dim=1)
        assert (columns.diff() >= 0).all()
        assert (rows.diff() >= 0).all()


def test_parts_have_the_areas_and_shapes_asked_for() -> None:
    config = ResizedCrop(area=(0.2, 0.6), ratio=(0.8, 1.25))
    parts = [random_part((300, 400), config, np.random.default_rng(seed)) for seed in range(300)]
    areas = np.array([height * width for _, _, height, width in parts]) / (300 * 400)
    ratios = np.array([width / height for _, _, height, width in parts])
    assert areas.min() > 0.19
    assert areas.max() < 0.61
    assert 0.35 < areas.mean() < 0.45
    assert ratios.min() > 0.78
    assert ratios.max() < 1.28
    assert all(y + height <= 300 and x + width <= 400 for y, x, height, width in parts)


def test_where_no_part_fits_the_middle_is_taken() -> None:
    y, x, height, width = random_part((10, 1000), ResizedCrop(area=(1.0, 1.0), tries=5), np.random.default_rng(0))
    assert (y, height) == (0, 10)
    assert width == round(10 * 4 / 3)
    assert abs((x + width / 2) - 500) <= 1


def test_the_centre_crop_is_the_middle_of_the_scaled_image() -> None:
    image = ramp(60, 120)
    found = centre_crop(image, short_side=30, size=20)
    assert found.shape == (3, 20, 20)
    assert float(found[0].float().mean()) == pytest.approx(59.5, abs=1)
    assert float(found[1].float().mean()) == pytest.approx(29.5, abs=1)
    with pytest.raises(ValueError, match="expected 1 <= size <= short_side, got 40 and 30"):
        centre_crop(image, short_side=30, size=40)


def test_sizes_and_corners_of_centre_crops_are_rounded_as_by_torchvision() -> None:
    wide, high = ramp(4, 7), ramp(9, 4)  # 1.5 becomes 2, and so does 2.5
    assert torch.equal(centre_crop(wide, short_side=4, size=4), wide[:, :, 2:6])
    assert torch.equal(centre_crop(high, short_side=4, size=4), high[:, 2:6])
    scaled = resize(ramp(3, 5), (4, 6))  # from 6.67
    assert torch.equal(centre_crop(ramp(3, 5), short_side=4, size=4), scaled[:, :, 1:5])


@pytest.mark.parametrize(("smooth", "expected"), [(True, [25, 75]), (False, [0, 88])])
def test_shrinking_averages_pixels_as_pillow_does_unless_told_otherwise(smooth: bool, expected: list[int]) -> None:
    """Pillow weights pixels by a triangle of twice the width, here 3, 3 and 1 of 7 for each of two results."""
    row = torch.tensor([0, 0, 175, 0], dtype=torch.uint8).expand(3, 1, 4)
    assert resize(row, (1, 2), smooth=smooth).tolist() == 3 * [[expected]]
    assert torch.equal(resize(row, (1, 4), smooth=smooth), row)


def test_a_placement_moves_image_labels_and_boxes_alike() -> None:
    """A square in an image, its mask and its box stay together whatever is done to them."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image, labels = torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(40, 60, dtype=torch.uint8)
        y, x = int(rng.integers(2, 24)), int(rng.integers(2, 44))
        image[:, y : y + 12, x : x + 14] = 255
        labels[y : y + 12, x : x + 14] = 3
        objects = Objects.of([((x, y, x + 14, y + 12), 2, 7, False)])
        config = SceneAugment(long_side=60, scale=(0.5, 2.0), scale_step=0.0, crop=(32, 48))
        placement = random_placement((40, 60), config, rng)
        there, mask = place_image(image, placement), place_labels(labels, placement)
        assert there.shape == (3, 32, 48)
        assert mask.shape == (32, 48)
        assert ((there[0] > 127) == (mask == 3))[mask != IGNORE_INDEX].float().mean() > 0.95
        assert (there[:, mask == IGNORE_INDEX] == 0).all()
        found = place_objects(objects, (40, 60), placement, least_share=0.0)
        rows, columns = np.nonzero((mask == 3).numpy())
        assert len(found) == (1 if len(rows) else 0) or len(rows) < 60
        if len(found) and len(rows):
            extents = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert found.boxes[0].tolist() == pytest.approx(extents, abs=1.6)
            assert (found.classes.tolist(), found.tracks.tolist()) == ([2], [7])


@pytest.mark.parametrize("side", [9, 20, 45, 90])
def test_labels_of_a_smooth_placement_turn_with_their_picture(side: int) -> None:
    labels = torch.randint(5, (27, 27), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    placement = Placement((side, side), False, (0, 0), (side, side), smooth=True)
    assert torch.equal(place_labels(labels.flip(0, 1), placement), place_labels(labels, placement).flip(0, 1))


def test_objects_that_the_crop_all_but_removes_are_dropped() -> None:
    objects = Objects.of([((0, 0, 10, 10), 0, 0, False), ((15, 0, 25, 10), 1, 1, False), ((50, 0, 60, 10), 2, 2, True)])
    placement = Placement((20, 60), False, (0, 0), (20, 20))
    found = place_objects(objects, (20, 60), placement, least_share=0.4)
    assert found.classes.tolist() == [0, 1]
    assert found.boxes.tolist() == [[0, 0, 10, 10], [15, 0, 20, 10]]
    assert place_objects(objects, (20, 60), placement, least_share=0.6).classes.tolist() == [0]


def test_scales_are_those_of_the_release() -> None:
    config = SceneAugment(scale=(0.5, 2.1))
    drawn = {round(random_scale(config, np.random.default_rng(seed)), 6) for seed in range(500)}
    assert drawn == {round(0.5 + step / 10, 6) for step in range(17)}


def test_sides_fit_both_limits() -> None:
    config = SceneAugment(long_side=1000, short_side=600, scale=(1.0, 1.0), crop=None)
    assert fitted((720, 1280), config) == (563, 1000)
    assert fitted((1000, 1000), config) == (600, 600)
    assert fitted((64, 128), SceneAugment(long_side=128), 1.5) == (96, 192)


def test_augmentation_depends_on_its_random_numbers_alone() -> None:
    labelled = LabelledImage(noise(32, 32), 3, "a")
    scene = SceneAugment(long_side=64, crop=(32, 48))
    segmented = SegmentedImage(noise(40, 64), noise(40, 64)[0] % 8, "a")
    annotated = AnnotatedImage(noise(40, 64), Objects.of([((2, 3, 30, 33), 1, 0, False)]), "a")
    for change, sample in (
        (Augment(CropFlip()), labelled),
        (Augment(ResizedCrop(size=16)), labelled),
        (AugmentSegmented(scene), segmented),
        (AugmentAnnotated(scene), annotated),
    ):
        first, again, other = (change(sample, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))  # pyright: ignore[reportArgumentType]
        assert torch.equal(first.image, again.image)
        assert not torch.equal(first.image, other.image)
        assert first.name == "a"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CropFlip(padding=-1), "padding must not be negative"),
        (lambda: CropFlip(flip_chance=1.5), r"flip_chance must be in \[0, 1\], got 1.5"),
        (lambda: ResizedCrop(area=(0.5, 0.4)), "area must be 0 < least <= greatest <= 1"),
        (lambda: ResizedCrop(ratio=(0.0, 1.0)), "ratio must be 0 < least <= greatest"),
        (lambda: SceneAugment(scale=(2.0, 1.0)), "scale must be 0 < least <= greatest"),
        (lambda: SceneAugment(crop=(0, 10)), "sides and crop must be at least 1 pixel"),
        (lambda: SceneAugment(least_share=2.0), "least_share must be in"),
        (lambda: Normalisation(mean=(0, 0, 0), std=(1, 0, 1)), "std must be positive"),
    ],
)
def test_settings_are_checked_when_made(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
