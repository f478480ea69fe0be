"""The miniature sets: what is written can be read back, is exact, divided by photograph, and always the same bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.flow import small

from deq_core.experiment.data import photographs
from deq_core.experiment.files import OutputError
from deq_core.experiment.outputs.written import files_of
from deq_flow.data.mini import write as mini
from deq_flow.data.mini.studio import Studio, picture
from deq_flow.data.mini.training import TRAINED_ON
from deq_flow.data.mini.videos import VideosConfig
from deq_flow.data.mini.write import MiniConfig, write_mini
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel

CONFIG = small.mini(
    height=40, width=56, train_pairs=3, val_pairs=2, scenes=2, videos=VideosConfig(videos=1, still=1, frames=2)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "flow"
    write_mini(path, CONFIG)
    return path


STUDIO = Studio(CONFIG.seed, CONFIG.size, CONFIG.scene, CONFIG.final, CONFIG.kitti_density, lambda: None)


def digests(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(root)}


def test_every_set_has_the_configured_number_of_pairs(root: Path) -> None:
    assert len(FlyingChairs(root, "train")) == 3
    assert len(FlyingChairs(root, "val")) == 2
    assert Sintel(root, "clean").sequences() == {"scene_1": range(2), "scene_2": range(2, 4)}
    assert len(Sintel(root, "final")) == 4
    assert len(Kitti(root)) == 2
    assert len(Kitti(root / "Motorcycle")) == 1


def test_chairs_hold_the_exact_flow(root: Path) -> None:
    pictures = photographs.load_all(photographs.VALIDATION)
    first, second, flow, _ = STUDIO.pair(STUDIO.random(mini.CHAIRS_VAL, 1), pictures)
    sample = FlyingChairs(root, "val")[1]
    assert torch.equal(sample.image1, picture(first.image))
    assert torch.equal(sample.image2, picture(second.image))
    assert torch.equal(sample.flow, torch.from_numpy(flow))
    assert sample.valid.all()


def test_sintel_frames_form_sequences_and_say_what_is_occluded(root: Path) -> None:
    pairs = Sintel(root)
    for indices in pairs.sequences().values():
        for index in indices[:-1]:
            assert torch.equal(pairs[index].image2, pairs[index + 1].image1)
    for sample in (pairs[index] for index in range(len(pairs))):
        assert sample.occluded is not None
        y, x = np.indices((40, 56), dtype=np.float32)
        u, v = sample.flow.numpy()
        outside = (x + u < 0) | (x + u > 55) | (y + v < 0) | (y + v > 39)
        assert sample.occluded.numpy()[outside].all()
        assert 0 < sample.occluded.float().mean() < 0.6
        assert sample.valid.all()


def test_the_background_of_still_videos_rests(root: Path) -> None:
    videos = Sintel(root / "Video")
    assert list(videos.sequences()) == ["still_2", "video_1"]
    resting = [
        float((videos[indices[0]].flow.norm(dim=0) < 1e-4).float().mean()) for indices in videos.sequences().values()
    ]
    assert resting[0] > 0.2
    assert resting[1] < 0.01


def test_sintel_flow_leads_to_the_next_frame(root: Path) -> None:
    def mismatch(index: int, share: float) -> float:
        """Grey levels between frame 1 and frame 2 looked up `share` of the way, where it is not occluded."""
        sample = Sintel(root)[index]
        assert sample.occluded is not None
        y, x = np.indices((40, 56), dtype=np.float32)
        u, v = share * sample.flow.numpy()
        warped = cv2.remap(sample.image2.permute(1, 2, 0).numpy(), x + u, y + v, cv2.INTER_CUBIC)
        difference = np.abs(warped.astype(float) - sample.image1.permute(1, 2, 0).numpy())
        return float(difference[~sample.occluded.numpy()].mean())

    for index in range(4):
        assert mismatch(index, 1.0) < 0.5 * min(mismatch(index, 0.0), mismatch(index, 0.5), mismatch(index, 2.0))


def test_no_two_items_share_random_numbers() -> None:
    kinds = (mini.CHAIRS_TRAIN, mini.CHAIRS_VAL, mini.SINTEL, mini.KITTI)
    draws = {
        replace(STUDIO, seed=seed).random(kind, index).uniform()
        for seed in range(3)
        for kind in kinds
        for index in range(5)
    }
    assert len(draws) == 3 * 4 * 5


def test_the_final_pass_has_the_same_flow_in_other_images(root: Path) -> None:
    clean, final = Sintel(root, "clean")[0], Sintel(root, "final")[0]
    assert torch.equal(clean.flow, final.flow)
    difference = (clean.image1.float() - final.image1.float()).abs().mean()
    assert 2 < difference < 60


def test_kitti_holds_the_exact_flow_at_random_pixels(root: Path) -> None:
    pictures = photographs.load_all(photographs.TEST)
    *_, flow, occluded = STUDIO.pair(STUDIO.random(mini.KITTI, 1), pictures)
    sample = Kitti(root)[1]
    assert (sample.flow - torch.from_numpy(flow))[:, sample.valid].abs().max() <= 1 / 128 + 1e-6
    assert 0.25 < sample.valid.float().mean() < 0.35
    assert sample.occluded is not None
    assert torch.equal(sample.occluded, sample.valid & torch.from_numpy(occluded))


def test_the_photographs_of_training_validation_and_test_are_disjoint() -> None:
    sets = [
        photographs.TRAINING,
        photographs.MORE_TRAINING,
        photographs.VALIDATION,
        photographs.TEST,
        photographs.STEREO,
    ]
    names = [name for group in sets for name in group]
    assert len(names) == len(set(names))
    contents = [hashlib.sha256(photographs.load(name).tobytes()).digest() for name in names]
    assert len(contents) == len(set(contents))


def test_each_set_is_made_from_its_own_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def load_all(names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
        used.append(names)
        return tuple(photographs.load(name) for name in names)

    monkeypatch.setattr(photographs, "load_all", load_all)
    write_mini(tmp_path / "flow", CONFIG)
    assert used == [
        TRAINED_ON,
        photographs.VALIDATION,
        photographs.TEST,  # Sintel and KITTI
        photographs.STEREO,
        TRAINED_ON,  # Training
        photographs.TEST,  # Video
        photographs.VALIDATION,  # ValidationVideo
    ]


def test_the_motorcycle_is_real_stereo_whose_flow_explains_the_right_frame(root: Path) -> None:
    sample = Kitti(root / "Motorcycle")[0]
    assert sample.image1.shape == (3, 500 // 8, 741 // 8)
    assert 0.9 < sample.valid.float().mean() < 1
    u, v = sample.flow
    assert not v.any()
    assert u[sample.valid].max() < 0  # everything moves left
    assert u.min() >= -60 / 8
    y, x = np.indices(u.shape, dtype=np.float32)
    right = cv2.remap(sample.image2.permute(1, 2, 0).numpy(), x + u.numpy(), y, cv2.INTER_LINEAR)
    left = sample.image1.permute(1, 2, 0).numpy()
    inside = sample.valid.numpy() & (x + u.numpy() >= 0)
    error = np.abs(right.astype(float) - left)[inside].mean()
    unmoved = np.abs(sample.image2.permute(1, 2, 0).numpy().astype(float) - left)[inside].mean()
    assert error < 0.5 * unmoved


def test_a_reduced_disparity_is_the_median_of_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disparity = np.array([[2, 4, np.inf, np.inf], [6, np.inf, np.inf, 8]], dtype=np.float32)
    frame = np.zeros((2, 4, 3), np.uint8)
    frame[:, 2:] = [[[10, 20, 30]], [[20, 40, 60]]]
    monkeypatch.setattr(photographs, "motorcycle", lambda: (frame, frame, disparity))
    mini.write_motorcycle(tmp_path, scale=2)
    sample = Kitti(tmp_path)[0]
    assert sample.valid.tolist() == [[True, False]]
    assert sample.flow[:, 0, 0].tolist() == [-2.0, 0.0]
    assert sample.image1[:, 0, 1].tolist() == [15, 30, 45]


def test_the_manifest_lists_every_other_file(root: Path) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    expected = digests(root)
    del expected["manifest.json"]
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == expected
    assert all(entry["bytes"] == (root / name).stat().st_size for name, entry in manifest["files"].items())
    assert manifest["config"]["seed"] == 0


def test_the_same_configuration_gives_the_same_bytes_on_any_number_of_threads(root: Path, tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    torch.set_num_threads(3)
    try:
        write_mini(tmp_path / "again", CONFIG)
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    assert digests(tmp_path / "again") == digests(root)


def test_items_depend_on_no_other_item(root: Path, tmp_path: Path) -> None:
    write_mini(tmp_path / "more", replace(CONFIG, train_pairs=4, val_pairs=1, scenes=1, kitti_pairs=1))
    first, second = digests(root), digests(tmp_path / "more")
    assert all(first[name] == second[name] for name in first if "/00001_" in name or "/00003_" in name)
    assert all(first[name] == second[name] for name in second if "scene_1" in name or "000000_" in name)


def test_another_seed_gives_other_pairs(root: Path, tmp_path: Path) -> None:
    write_mini(tmp_path / "other", replace(CONFIG, seed=1))
    first, second = digests(root), digests(tmp_path / "other")
    same = {name for name in first if first[name] == second[name]}
    assert same == {"chairs_split.txt", *(name for name in first if name.startswith("Motorcycle"))}


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(root: Path, config: MiniConfig) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mini, "write_manifest", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_mini(tmp_path / "flow", CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 1}, "frames must be at least 2, got 1"),
        ({"height": 8}, "height must be at least 16, got 8"),
        ({"kitti_density": 0.0}, r"kitti_density must be in \(0, 1\], got 0.0"),
        ({"scene_pace": 0.0}, "scene_pace must be positive, got 0.0"),
    ],
)
def test_settings_are_checked_when_made(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiniConfig(**change)  # pyright: ignore[reportArgumentType]  # one wrong value at a time


def test_a_photograph_that_is_not_installed_says_what_to_install() -> None:
    with pytest.raises(FileNotFoundError, match=r"no_such\.png.*scikit-image"):
        photographs.locate("skimage/data/no_such.png")
    with pytest.raises(FileNotFoundError, match=r"absent_package"):
        photographs.locate("absent_package/a.png")
