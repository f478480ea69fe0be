"""The readers of the published sets on small trees in the released layouts."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.flow.small import write_flow

from deq_core.experiment.data import images
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError
from deq_flow.data import held_out, io
from deq_flow.data.flo5 import read_flo5
from deq_flow.data.samples import FlowSample
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.data.sets.hd1k import Hd1k
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.layout import Pairs
from deq_flow.data.sets.sintel import Sintel
from deq_flow.data.sets.spring import Spring
from deq_flow.data.sets.things import DIRECTIONS, FlyingThings

H, W = 4, 6
BELOW = torch.arange(H)[:, None].repeat(1, W) > 0
"""All rows but the first, where KITTI and HD1K have flow."""


def grey(level: int, h: int = H) -> torch.Tensor:
    return torch.full((3, h, W), level, dtype=torch.uint8)


def constant(*values: float, h: int = H) -> torch.Tensor:
    return torch.stack([torch.full((h, W), float(value)) for value in values])


def level(split: str, scene: str, frame: int, final: bool = False) -> int:
    """Of a frame of FlyingThings3D."""
    return 100 * (split == "TEST") + 50 * scene.startswith("B") + 2 * frame + final


def write_chairs(folder: Path) -> None:
    for number in range(1, 6):
        images.write_image(folder / "data" / f"{number:05d}_img1.ppm", grey(10 * number))
        images.write_image(folder / "data" / f"{number:05d}_img2.ppm", grey(10 * number + 1))
        write_flow(folder / "data" / f"{number:05d}_flow.flo", constant(number, 0))
    (folder.parent / "chairs_split.txt").write_text("1\n2\n1\n1\n2\n")


def write_sintel(folder: Path) -> None:
    for split in ("training", "test"):
        for scene, frames in (("market_2", 2), ("alley_1", 3)):
            for frame in range(1, frames + 1):
                name = f"{scene}/frame_{frame:04d}"
                for render in ("clean", "final"):
                    shade = 100 * (scene == "alley_1") + 10 * frame + (render == "final")
                    images.write_image(folder / split / render / f"{name}.png", grey(shade))
                if split == "training" and frame < frames:
                    write_flow(folder / split / "flow" / f"{name}.flo", constant(frame, 0))


def write_kitti(folder: Path) -> None:
    for number in (3, 0):
        for suffix in (10, 11):
            for split in ("training", "testing"):
                path = folder / split / "image_2" / f"{number:06d}_{suffix}.png"
                images.write_image(path, grey(10 * number + suffix))
        write_flow(folder / "training/flow_occ" / f"{number:06d}_10.png", constant(number, 0.5), BELOW)


def write_things(folder: Path) -> None:
    for split, scene, count in (("TRAIN", "A/0000", 3), ("TRAIN", "B/0011", 2), ("TEST", "A/0000", 2)):
        for frame in range(6, 6 + count):
            for render in ("clean", "final"):
                frames = folder / f"frames_{render}pass" / split / scene
                shade = level(split, scene, frame, render == "final")
                images.write_image(frames / f"left/{frame:04d}.png", grey(shade))
                images.write_image(frames / f"right/{frame:04d}.png", grey(250))
            for (direction, word), sign in zip(DIRECTIONS.items(), (1, -1), strict=True):
                flows, stored = folder / "optical_flow" / split / scene / direction, constant(sign * frame, 0.5, 777.0)
                io.write_pfm(flows / "left" / f"{word}_{frame:04d}_L.pfm", stored)
                io.write_pfm(flows / "right" / f"{word}_{frame:04d}_R.pfm", stored + 100)


def write_hd1k(folder: Path) -> None:
    for sequence, count in ((0, 3), (7, 2)):
        for frame in range(count):
            name = f"{sequence:06d}_{frame:04d}.png"
            images.write_image(folder / "hd1k_input/image_2" / name, grey(10 * sequence + frame))
            write_flow(folder / "hd1k_flow_gt/flow_occ" / name, constant(sequence, frame), BELOW)


def write_spring(folder: Path) -> None:
    for split, scene, count in (("train", "0001", 3), ("train", "0010", 2), ("test", "0003", 2)):
        for frame in range(1, count + 1):
            place = folder / split / scene
            images.write_image(place / f"frame_left/frame_left_{frame:04d}.png", grey(10 * int(scene) + frame))
            if split == "train" and frame < count:
                flow = torch.zeros(2, 2 * H, 2 * W)
                flow[:, ::2, ::2] = torch.tensor([frame, -frame])[:, None, None]
                flow[:, 0, 2] = torch.nan
                write_flow(place / f"flow_FW_left/flow_FW_left_{frame:04d}.flo5", flow)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets, whole."""
    root = tmp_path_factory.mktemp("sets")
    write_chairs(root / "FlyingChairs_release")
    write_sintel(root / "Sintel")
    write_kitti(root / "KITTI")
    write_things(root / "FlyingThings3D")
    write_hd1k(root / "HD1k")
    write_spring(root / "spring")
    return root


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(root, tmp_path, dirs_exist_ok=True)


def names(pairs: Pairs) -> list[str]:
    return [pairs[index].name for index in range(len(pairs))]


def test_chairs_follow_the_split_file(root: Path) -> None:
    train = FlyingChairs(root)
    assert names(train) == ["00001", "00003", "00004"]
    assert names(FlyingChairs(root, "val")) == ["00002", "00005"]
    sample = train[1]
    assert torch.equal(sample.image1, grey(30))
    assert torch.equal(sample.image2, grey(31))
    assert torch.equal(sample.flow, constant(3, 0))
    assert sample.valid.all()
    assert sample.occluded is None


def test_the_split_may_lie_beside_the_data(data: Path) -> None:
    (data / "chairs_split.txt").rename(data / "FlyingChairs_release" / "chairs_split.txt")
    assert len(FlyingChairs(data)) == 3


@pytest.mark.parametrize(
    ("split", "wrong"),
    [
        (None, "the split of FlyingChairs is missing"),
        ("1\n2\n1\n", "expected 5 lines.*got 3"),
        ("1\n2\n1\n3\n2\n", "expected lines of 1 .* or 2 .*, got '3'"),
    ],
)
def test_a_split_that_does_not_fit_is_an_error_not_an_empty_set(data: Path, split: str | None, wrong: str) -> None:
    path = data / "chairs_split.txt"
    path.unlink() if split is None else path.write_text(split)
    with pytest.raises(LayoutError, match=rf"chairs_split\.txt: {wrong}"):
        FlyingChairs(data)


def test_files_of_another_size_are_errors_that_name_them(data: Path) -> None:
    folder = data / "FlyingChairs_release/data"
    write_flow(folder / "00001_flow.flo", constant(1, 0, h=H + 1))
    with pytest.raises(FileFormatError, match=r"00001_flow\.flo: expected 6x4 pixels, the size of its image, got 6x5"):
        FlyingChairs(data)[0]
    images.write_image(folder / "00001_img2.ppm", grey(0, h=H + 1))
    with pytest.raises(FileFormatError, match=r"00001_img2\.ppm: expected 6x4"):
        FlyingChairs(data)[0]


def test_dense_flow_of_a_thousand_pixels_or_nan_is_not_valid(data: Path) -> None:
    values = constant(1, 0)
    values[0, 0, 0], values[1, 1, 1], values[0, 2, 2] = 1000.0, -1e9, torch.nan
    write_flow(data / "FlyingChairs_release/data/00001_flow.flo", values)
    sample = FlyingChairs(data)[0]
    assert (~sample.valid).nonzero().tolist() == [[0, 0], [1, 1], [2, 2]]
    assert (sample.flow[:, ~sample.valid] == 0).all()
    assert torch.equal(sample.flow[:, sample.valid], constant(1, 0)[:, sample.valid])


def test_sintel_pairs_are_sorted_and_never_cross_scenes(root: Path) -> None:
    pairs = Sintel(root)
    assert names(pairs) == ["alley_1/frame_0001", "alley_1/frame_0002", "market_2/frame_0001"]
    assert pairs.sequences() == {"alley_1": range(2), "market_2": range(2, 3)}
    assert torch.equal(pairs[1].image1, grey(120))
    assert torch.equal(pairs[1].image2, grey(130))
    assert torch.equal(pairs[1].flow, constant(2, 0))


def test_sintel_passes_differ_in_images_alone(root: Path) -> None:
    clean, final = Sintel(root, "clean")[0], Sintel(root, "final")[0]
    assert torch.equal(final.image1, clean.image1 + 1)
    assert torch.equal(final.flow, clean.flow)


def test_a_test_split_has_frames_and_no_known_flow(root: Path) -> None:
    for pairs, count in ((Sintel(root, split="test"), 3), (Kitti(root, "testing"), 2), (Spring(root, "test"), 1)):
        sample = pairs[0]
        assert len(pairs) == count
        assert sample.image1.shape == (3, H, W)
        assert not sample.valid.any()
        assert not sample.flow.any()


def test_sintel_masks_are_read_where_they_exist_and_leave_the_flow_valid(data: Path) -> None:
    masks = {"occlusions": torch.arange(W).repeat(H, 1) == 0, "invalid": ~BELOW}
    for kind, mask in masks.items():
        images.write_mask(data / f"Sintel/training/{kind}/alley_1/frame_0001.png", mask)
    sample, without = (Sintel(data)[index] for index in (0, 1))
    assert sample.occluded is not None
    assert torch.equal(sample.occluded, masks["occlusions"])
    assert sample.invalid is not None
    assert torch.equal(sample.invalid, masks["invalid"])
    assert sample.valid.all()
    assert without.occluded is without.invalid is None


def test_kitti_pairs_come_in_order_with_sparse_flow(root: Path) -> None:
    pairs = Kitti(root)
    assert names(pairs) == ["000000", "000003"]
    sample = pairs[1]
    assert torch.equal(sample.image1, grey(40))
    assert torch.equal(sample.image2, grey(41))
    assert torch.equal(sample.valid, BELOW)
    assert torch.equal(sample.flow[:, 1:], constant(3, 0.5)[:, 1:])
    assert sample.occluded is None


def test_kitti_pixels_without_unoccluded_flow_are_occluded(data: Path) -> None:
    seen = torch.arange(H)[:, None].repeat(1, W) > 1
    write_flow(data / "KITTI/training/flow_noc/000000_10.png", constant(0, 0), seen)
    occluded = Kitti(data)[0].occluded
    assert occluded is not None
    assert occluded[1].all()
    assert int(occluded.sum()) == W


def test_things_have_every_pair_forwards_then_every_pair_backwards(root: Path) -> None:
    pairs = FlyingThings(root)
    assert names(pairs) == [
        "A/0000/0006-0007",
        "A/0000/0007-0008",
        "B/0011/0006-0007",
        "A/0000/0007-0006",
        "A/0000/0008-0007",
        "B/0011/0007-0006",
    ]
    assert held_out.split(pairs, 0.4) == ([0, 1, 3, 4], [2, 5]), "by video, both directions together"


@pytest.mark.parametrize(("index", "first", "second", "u"), [(1, 7, 8, 7.0), (4, 8, 7, -8.0)])
def test_things_flow_starts_from_the_first_frame_of_the_pair(
    root: Path, index: int, first: int, second: int, u: float
) -> None:
    sample = FlyingThings(root)[index]
    assert torch.equal(sample.image1, grey(level("TRAIN", "A", first)))
    assert torch.equal(sample.image2, grey(level("TRAIN", "A", second)))
    assert torch.equal(sample.flow, constant(u, 0.5))
    assert sample.valid.all()


def test_things_splits_and_passes_are_apart(root: Path) -> None:
    test, final = FlyingThings(root, split="TEST"), FlyingThings(root, "final")
    assert len(test) == 2
    assert torch.equal(test[0].image1, grey(level("TEST", "A", 6)))
    assert torch.equal(final[0].image1, grey(level("TRAIN", "A", 6, final=True)))
    assert torch.equal(final[0].flow, FlyingThings(root)[0].flow)


def test_flow_of_one_channel_is_an_error(data: Path) -> None:
    path = data / "FlyingThings3D/optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm"
    io.write_pfm(path, constant(1.0))
    with pytest.raises(FileFormatError, match=r"IntoFuture_0006_L\.pfm: expected three channels"):
        FlyingThings(data)[0]


def test_hd1k_pairs_are_sorted_and_never_cross_sequences(root: Path) -> None:
    pairs = Hd1k(root)
    assert names(pairs) == ["000000_0000", "000000_0001", "000007_0000"]
    assert pairs.sequences() == {"000000": range(2), "000007": range(2, 3)}
    sample = pairs[1]
    assert torch.equal(sample.image1, grey(1))
    assert torch.equal(sample.image2, grey(2))
    assert torch.equal(sample.valid, BELOW)
    assert torch.equal(sample.flow[:, 1:], constant(0.0, 1.0)[:, 1:])


def test_spring_flow_is_every_second_point_of_every_second_row(root: Path) -> None:
    pairs = Spring(root)
    assert names(pairs) == ["0001/frame_left_0001", "0001/frame_left_0002", "0010/frame_left_0001"]
    assert pairs.sequences() == {"0001": range(2), "0010": range(2, 3)}
    sample = pairs[1]
    assert torch.equal(sample.image1, grey(12))
    assert torch.equal(sample.image2, grey(13))
    assert (~sample.valid).nonzero().tolist() == [[0, 1]]
    assert torch.equal(sample.flow[:, sample.valid], constant(2.0, -2.0)[:, sample.valid])
    assert not sample.flow[:, 0, 1].any()


def test_flo5_files_without_flow_are_errors_that_name_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.flo5", "w") as file:
        file.create_dataset("disparity", data=np.zeros((2, 2)))
    with pytest.raises(FileFormatError, match=r'a\.flo5: expected a data set "flow" \(h, w, 2\), got none'):
        read_flo5(tmp_path / "a.flo5")


def test_without_h5py_spring_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'deq-flow\[spring\]'"):
        Spring(root)[0]


@pytest.mark.parametrize("read", [FlyingChairs, Sintel, Kitti, FlyingThings, Hd1k, Spring])
def test_an_absent_data_set_says_what_to_unpack(tmp_path: Path, read: type) -> None:
    with pytest.raises(LayoutError, match="does not exist; unpack"):
        read(tmp_path)


THINGS_FLOW = "FlyingThings3D/optical_flow/TRAIN/A/0000"
MISSING: list[tuple[Callable[..., Pairs], str]] = [
    (FlyingChairs, "FlyingChairs_release/data/00003_img2.ppm"),
    (Sintel, "Sintel/training/flow/alley_1/frame_0002.flo"),
    *((Sintel, f"Sintel/training/clean/alley_1/frame_{frame:04d}.png") for frame in (1, 2, 3)),
    (Kitti, "KITTI/training/image_2/000003_11.png"),
    *((FlyingThings, f"FlyingThings3D/frames_cleanpass/TRAIN/A/0000/left/{frame:04d}.png") for frame in (6, 7, 8)),
    *((FlyingThings, f"{THINGS_FLOW}/{direction}/left/{word}_0007_L.pfm") for direction, word in DIRECTIONS.items()),
    *((Hd1k, f"HD1k/hd1k_input/image_2/000000_{frame:04d}.png") for frame in (0, 1, 2)),
    *((Hd1k, f"HD1k/hd1k_flow_gt/flow_occ/000000_{frame:04d}.png") for frame in (0, 1)),
    (Spring, "spring/train/0001/frame_left/frame_left_0002.png"),
    (Spring, "spring/train/0001/flow_FW_left/flow_FW_left_0001.flo5"),
]


@pytest.mark.parametrize(("read", "name"), MISSING)
def test_a_missing_file_is_an_error_and_does_not_shift_the_pairs(
    root: Path, tmp_path: Path, read: Callable[..., Pairs], name: str
) -> None:
    path = root / name
    kept = path.rename(tmp_path / "kept")
    try:
        with pytest.raises(LayoutError, match=r"missing|without its two frames") as caught:
            read(root)
        if "files are missing" in str(caught.value):
            assert caught.value.missing == (path,)
            assert path.name in str(caught.value)
        if "clean" in name:
            assert len(read(root, "final")) == {Sintel: 3, FlyingThings: 6}[read], "the other pass is whole"
    finally:
        kept.rename(path)


def test_flow_of_the_last_frame_of_hd1k_is_not_needed(data: Path) -> None:
    (data / "HD1k/hd1k_flow_gt/flow_occ/000000_0002.png").unlink()
    assert len(Hd1k(data)) == 3


def test_a_sample_of_the_wrong_type_or_shape_says_which(root: Path) -> None:
    sample = FlyingChairs(root)[0]
    with pytest.raises(ValueError, match=r"pair: flow must be torch.float32 of shape \(2, 4, 6\).*torch.float64"):
        FlowSample(sample.image1, sample.image2, sample.flow.double(), sample.valid, "pair")
    with pytest.raises(ValueError, match=r"pair: valid must be torch.bool of shape \(4, 6\).*got .*\(6, 4\)"):
        FlowSample(sample.image1, sample.image2, sample.flow, sample.valid.T, "pair")
    flow, valid = torch.zeros_like(sample.flow), torch.ones_like(sample.valid)
    flow[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="pair: flow must be finite at valid pixels, got 1 that are not"):
        FlowSample(sample.image1, sample.image2, flow, valid, "pair")
    valid[0, 0] = False
    FlowSample(sample.image1, sample.image2, flow, valid, "pair")
