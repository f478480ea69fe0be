"""Moving layers: the motion is invertible, the flow explains the second frame, and occlusions are exact."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from deq_core.experiment.data import photographs
from deq_flow.data.mini.final_pass import FinalPassConfig, Fog, final_pass
from deq_flow.data.mini.motion import Motion, Waves
from deq_flow.data.mini.scenes import (
    Layer,
    Outline,
    SceneConfig,
    View,
    exact_flow,
    pixel_grid,
    random_motion,
    random_scene,
    render,
)

SIZE = (72, 96)
CONFIG = SceneConfig()


def smooth_photograph(seed: int, size: tuple[int, int] = (300, 400)) -> np.ndarray:
    """Colours without detail finer than many pixels, so that sampling them anywhere is almost exact."""
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 14)
    return (127 + 90 * blurred / np.abs(blurred).max()).astype(np.uint8)


def rigid(dx: float, dy: float, centre: tuple[float, float] = (40.0, 30.0)) -> Motion:
    """A translation by (dx, dy) a frame."""
    still = Waves(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    return Motion(np.array(centre), np.array([dx, dy]), np.zeros(2), 0.0, (0.0, 0.0), 0.0, still)


def disc(radius: float, centre: tuple[float, float] = (40.0, 30.0)) -> Outline:
    return Outline(np.array(centre), radius, np.zeros(1), np.zeros(1))


def warp_error(first: View, second: View, flow: np.ndarray) -> np.ndarray:
    """(h, w), grey levels: how far the second frame, looked up along the flow, is from the first."""
    x, y = (pixel_grid(SIZE) + flow).astype(np.float32)
    warped = cv2.remap(second.image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.abs(warped.astype(np.float64) - first.image).mean(axis=2)


def interior(view: View, width: int = 2) -> np.ndarray:
    """(h, w): pixels whose neighbours up to `width` away all belong to the same layer."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    top = view.top.astype(np.uint8)
    return cv2.erode(top, kernel) == cv2.dilate(top, kernel)


def interior_at(view: View, flow: np.ndarray) -> np.ndarray:
    """(h, w): pixels whose flow leads to the interior of a layer of `view`."""
    x, y = np.rint(pixel_grid(SIZE) + flow).astype(int)
    return interior(view)[y.clip(0, SIZE[0] - 1), x.clip(0, SIZE[1] - 1)]


@pytest.mark.parametrize("time", [-3.5, -0.5, 0.5, 3.5])
def test_motion_there_and_back_is_the_identity(time: float) -> None:
    motion = random_motion(np.random.default_rng(0), np.array([50.0, 40.0]), np.array([5.0, -3.0]), CONFIG, pace=1.0)
    grid = pixel_grid(SIZE)
    np.testing.assert_allclose(motion.to_frame(motion.to_plane(grid, time), time), grid, atol=2e-6)


def test_velocity_is_the_displacement_of_the_centre() -> None:
    motion = random_motion(
        np.random.default_rng(1), np.array([50.0, 40.0]), np.array([5.0, -3.0]), SceneConfig(ripple=0.0), pace=1.0
    )
    places = [motion.to_frame(np.array([[50.0], [40.0]]), time)[:, 0] for time in (-0.5, 0.5)]
    np.testing.assert_allclose(places[1] - places[0], [5.0, -3.0], atol=1e-6)


def test_a_path_is_that_of_constant_acceleration() -> None:
    motion = replace(rigid(3, -2), acceleration=np.array([1.0, 0.5]))
    place = motion.to_frame(np.array([[40.0], [30.0]]), 4.0)[:, 0]
    np.testing.assert_allclose(place, [40 + 3 * 4 + 1.0 * 16 / 2, 30 - 2 * 4 + 0.5 * 16 / 2])


def test_ripples_that_could_fold_are_refused() -> None:
    steep = Waves(np.array([[3.0, 0.0]]), np.array([[0.2, 0.0]]), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match=r"at most 0\.5 pixels per pixel, got 0\.60"):
        Motion(np.zeros(2), np.zeros(2), np.zeros(2), 0.0, (0.0, 0.0), 0.0, steep)


@pytest.mark.parametrize("seed", range(6))
def test_the_flow_explains_the_second_frame_to_rounding(seed: int) -> None:
    pictures = tuple(smooth_photograph(100 * seed + index) for index in range(3))
    layers = random_scene(np.random.default_rng(seed), pictures, SIZE, SceneConfig(zoom=(1.0, 1.5)))
    first, second = render(layers, -0.5, SIZE), render(layers, 0.5, SIZE)
    flow, occluded = exact_flow(layers, first, 0.5)
    compared = ~occluded & interior(first) & interior_at(second, flow)
    assert compared.mean() > 0.5
    error = warp_error(first, second, flow)[compared]
    assert error.mean() < 0.5
    assert error.max() < 2.0
    assert warp_error(first, second, flow + 1.0)[compared].mean() > 2 * error.mean()  # a pixel off would show


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_explains_the_second_frame_of_photographs(seed: int) -> None:
    layers = random_scene(np.random.default_rng(seed), photographs.load_all(photographs.TEST), SIZE, CONFIG)
    first, second = render(layers, -0.5, SIZE), render(layers, 0.5, SIZE)
    flow, occluded = exact_flow(layers, first, 0.5)
    compared = ~occluded & interior(first) & interior_at(second, flow)
    assert warp_error(first, second, flow)[compared].mean() < 2.5
    unmoved = warp_error(first, second, np.zeros_like(flow))[compared].mean()
    assert warp_error(first, second, flow)[compared].mean() < 0.25 * unmoved


def test_what_a_moving_object_covers_is_occluded_exactly() -> None:
    layers = (
        Layer(smooth_photograph(0), rigid(0, 0), None),
        Layer(smooth_photograph(1), rigid(7, 2), disc(12.3)),
    )
    first, second = render(layers, 0, SIZE), render(layers, 1, SIZE)
    flow, occluded = exact_flow(layers, first, 1)
    np.testing.assert_array_equal(occluded, (first.top == 0) & (second.top == 1))
    np.testing.assert_allclose(flow[:, first.top == 1], np.broadcast_to([[7.0], [2.0]], (2, int(first.top.sum()))))
    assert not flow[:, first.top == 0].any()


def test_what_leaves_the_frame_is_occluded_and_keeps_its_flow() -> None:
    layers = (Layer(smooth_photograph(0), rigid(-10, 0), None),)
    flow, occluded = exact_flow(layers, render(layers, 0, SIZE), 1)
    assert occluded[:, :10].all()
    assert not occluded[:, 10:].any()
    np.testing.assert_allclose(flow[0], -10)


def test_of_two_objects_the_later_one_hides_the_earlier() -> None:
    layers = (
        Layer(smooth_photograph(0), rigid(0, 0), None),
        Layer(smooth_photograph(1), rigid(8, 0), disc(10)),
        Layer(smooth_photograph(2), rigid(0, 0, (60.0, 30.0)), disc(10, (60.0, 30.0))),
    )
    first, second = render(layers, 0, SIZE), render(layers, 1, SIZE)
    _, occluded = exact_flow(layers, first, 1)
    assert not occluded[first.top == 2].any()
    x = np.nonzero((first.top == 1) & occluded)[1]
    assert len(x) > 0
    assert ((second.top == 2)[:, x + 8]).any(axis=0).all()


def test_a_scene_is_rendered_alike_from_either_time() -> None:
    """The flow from frame 1 to 2 and back is zero where nothing is hidden."""
    layers = random_scene(np.random.default_rng(3), (smooth_photograph(0), smooth_photograph(1)), SIZE, CONFIG)
    first, second = render(layers, -0.5, SIZE), render(layers, 0.5, SIZE)
    there, occluded = exact_flow(layers, first, 0.5)
    back, _ = exact_flow(layers, second, -0.5)
    x, y = (pixel_grid(SIZE) + there).astype(np.float32)
    returned = cv2.remap(back.transpose(1, 2, 0), x, y, cv2.INTER_LINEAR).transpose(2, 0, 1)
    compared = ~occluded & interior(first) & interior_at(second, there)
    assert np.abs(there + returned)[:, compared].max() < 0.05


def test_speeds_have_the_mean_and_the_limit_that_are_configured() -> None:
    config = SceneConfig(objects=(0, 0), background_speed=4.0, max_speed=9.0, rotation=0.0, stretch=0.0, ripple=0.0)
    rng = np.random.default_rng(0)
    picture = (smooth_photograph(0),)
    speeds = [np.linalg.norm(random_scene(rng, picture, (24, 32), config)[0].motion.velocity) for _ in range(300)]
    assert max(speeds) <= 9.0 + 1e-9
    assert np.mean(speeds) == pytest.approx(4.0, rel=0.15)
    assert np.std(speeds) > 1.5


def test_a_final_pass_without_effects_is_the_clean_frame() -> None:
    image = smooth_photograph(0, SIZE)
    none = FinalPassConfig(shutter=0.0, defocus=0.0, fog=0.0, exposure=0.0, noise=0.0)
    flow = np.full((2, *SIZE), 5.0)
    result = final_pass(image, flow, np.zeros(SIZE), Fog(0.0, np.full(3, 200.0)), np.random.default_rng(0), none)
    np.testing.assert_array_equal(result, image)


def test_motion_blur_spreads_a_point_along_its_flow() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[30, 40] = 255
    sharp = FinalPassConfig(shutter=1.0, defocus=0.0, fog=0.0, exposure=0.0, noise=0.0)
    flow = np.zeros((2, *SIZE))
    flow[0] = 6.0
    result = final_pass(image, flow, np.zeros(SIZE), Fog(0.0, np.zeros(3)), np.random.default_rng(0), sharp)
    y, x = np.nonzero(result[:, :, 0])
    assert set(y) == {30}
    assert (x.min(), x.max()) == (37, 43)


def test_fog_veils_the_background_more_than_what_is_near() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    clear = FinalPassConfig(shutter=0.0, defocus=0.0, fog=1.0, exposure=0.0, noise=0.0)
    nearness = np.zeros(SIZE)
    nearness[:, 48:] = 0.75
    fog = Fog(0.4, np.full(3, 200.0))
    result = final_pass(image, np.zeros((2, *SIZE)), nearness, fog, np.random.default_rng(0), clear)
    assert (result[:, :48] == 80).all()
    assert (result[:, 48:] == 20).all()


def test_scene_settings_are_checked_when_made() -> None:
    with pytest.raises(ValueError, match="objects must be 0 <= least <= most"):
        SceneConfig(objects=(3, 1))
    with pytest.raises(ValueError, match="radius must be 0 < least <= greatest"):
        SceneConfig(radius=(0.0, 5.0))
    with pytest.raises(ValueError, match="max_speed must not be negative"):
        SceneConfig(max_speed=-1.0)
    with pytest.raises(ValueError, match="fog must be at most 1"):
        FinalPassConfig(fog=1.5)
