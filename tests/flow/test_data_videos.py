"""The readers of FlyingThings3D, HD1K and Spring on small trees in the released layouts."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deq_core.experiment.data import images
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError
from deq_flow.data import held_out, io
from deq_flow.data.flo5 import read_flo5
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.data.sets.hd1k import Hd1k
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel
from deq_flow.data.sets.spring import Spring
from deq_flow.data.sets.things import FlyingThings

H, W = 4, 6
THINGS = [("TRAIN", "A/0000", 6, 3), ("TRAIN", "B/0011", 6, 2), ("TEST", "A/0000", 6, 2)]
"""Split, scene, first frame, number of frames."""


def grey(level: int) -> torch.Tensor:
    return torch.full((3, H, W), level, dtype=torch.uint8)


def constant(*values: float, h: int = H, w: int = W) -> torch.Tensor:
    return torch.stack([torch.full((h, w), value) for value in values])


def level(split: str, scene: str, frame: int, final: bool = False) -> int:
    return 100 * (split == "TEST") + 50 * scene.startswith("B") + 2 * frame + final


@pytest.fixture
def things(tmp_path: Path) -> Path:
    folder = tmp_path / "FlyingThings3D"
    for split, scene, first, count in THINGS:
        for frame in range(first, first + count):
            for render in ("clean", "final"):
                for camera in ("left", "right"):
                    path = folder / f"frames_{render}pass" / split / scene / camera / f"{frame:04d}.png"
                    shade = 250 if camera == "right" else level(split, scene, frame, render == "final")
                    images.write_image(path, grey(shade))
            for direction, word, sign in (("into_future", "IntoFuture", 1), ("into_past", "IntoPast", -1)):
                flows = folder / "optical_flow" / split / scene / direction
                stored = constant(sign * frame, 0.5, 777.0)
                io.write_pfm(flows / "left" / f"OpticalFlow{word}_{frame:04d}_L.pfm", stored)
                io.write_pfm(flows / "right" / f"OpticalFlow{word}_{frame:04d}_R.pfm", stored + 100)
    return tmp_path


@pytest.fixture
def hd1k(tmp_path: Path) -> Path:
    folder = tmp_path / "HD1k"
    valid = torch.zeros(H, W, dtype=torch.bool)
    valid[1:] = True
    for sequence, count in ((0, 3), (7, 2)):
        for frame in range(count):
            name = f"{sequence:06d}_{frame:04d}.png"
            images.write_image(folder / "hd1k_input/image_2" / name, grey(10 * sequence + frame))
            io.write_kitti(folder / "hd1k_flow_gt/flow_occ" / name, constant(float(sequence), float(frame)), valid)
    return tmp_path


@pytest.fixture
def spring(tmp_path: Path) -> Path:
    for split, scene, count in (("train", "0001", 3), ("train", "0010", 2), ("test", "0003", 2)):
        for frame in range(1, count + 1):
            folder = tmp_path / "spring" / split / scene
            images.write_image(folder / f"frame_left/frame_left_{frame:04d}.png", grey(10 * int(scene) + frame))
            if split == "train" and frame < count:
                path = folder / f"flow_FW_left/flow_FW_left_{frame:04d}.flo5"
                path.parent.mkdir(exist_ok=True)
                flow = np.zeros((2 * H, 2 * W, 2), dtype=np.float32)
                flow[::2, ::2] = (frame, -frame)
                flow[0, 2] = np.nan
                with h5py.File(path, "w") as file:
                    file.create_dataset("flow", data=flow, compression="gzip")
    return tmp_path


def test_things_have_every_pair_forwards_then_every_pair_backwards(things: Path) -> None:
    pairs = FlyingThings(things)
    assert [pairs[index].name for index in range(len(pairs))] == [
        "A/0000/0006-0007",
        "A/0000/0007-0008",
        "B/0011/0006-0007",
        "A/0000/0007-0006",
        "A/0000/0008-0007",
        "B/0011/0007-0006",
    ]


def test_things_are_held_out_by_video_both_directions_together(things: Path) -> None:
    assert held_out.split(FlyingThings(things), 0.4) == ([0, 1, 3, 4], [2, 5])


@pytest.mark.parametrize(("index", "first", "second", "u"), [(1, 7, 8, 7.0), (4, 8, 7, -8.0)])
def test_things_flow_starts_from_the_first_frame_of_the_pair(
    things: Path, index: int, first: int, second: int, u: float
) -> None:
    sample = FlyingThings(things)[index]
    assert torch.equal(sample.image1, grey(level("TRAIN", "A", first)))
    assert torch.equal(sample.image2, grey(level("TRAIN", "A", second)))
    assert torch.equal(sample.flow, constant(u, 0.5))
    assert sample.valid.all()


def test_things_splits_and_passes_are_apart(things: Path) -> None:
    test, final = FlyingThings(things, split="TEST"), FlyingThings(things, "final")
    assert len(test) == 2
    assert torch.equal(test[0].image1, grey(level("TEST", "A", 6)))
    assert torch.equal(final[0].image1, grey(level("TRAIN", "A", 6, final=True)))
    assert torch.equal(final[0].flow, FlyingThings(things)[0].flow)


@pytest.mark.parametrize("frame", [6, 7, 8])
def test_a_missing_frame_of_things_is_an_error_wherever_it_is(things: Path, frame: int) -> None:
    (things / f"FlyingThings3D/frames_cleanpass/TRAIN/A/0000/left/{frame:04d}.png").unlink()
    with pytest.raises(LayoutError, match=rf"(0*{frame}\b.*missing|missing.*000{frame}\.png)"):
        FlyingThings(things)
    assert len(FlyingThings(things, "final")) == 6


@pytest.mark.parametrize(("direction", "word"), [("into_future", "IntoFuture"), ("into_past", "IntoPast")])
def test_missing_flow_of_things_is_an_error_that_names_it(things: Path, direction: str, word: str) -> None:
    path = things / f"FlyingThings3D/optical_flow/TRAIN/A/0000/{direction}/left/OpticalFlow{word}_0007_L.pfm"
    path.unlink()
    with pytest.raises(LayoutError, match=rf"1 files are missing.*{word}_0007_L\.pfm") as caught:
        FlyingThings(things)
    assert caught.value.missing == (path,)


def test_flow_of_one_channel_is_an_error(things: Path) -> None:
    path = things / "FlyingThings3D/optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm"
    io.write_pfm(path, constant(1.0))
    with pytest.raises(FileFormatError, match=r"IntoFuture_0006_L\.pfm: expected three channels"):
        FlyingThings(things)[0]


def test_hd1k_pairs_are_sorted_and_never_cross_sequences(hd1k: Path) -> None:
    pairs = Hd1k(hd1k)
    assert [pairs[index].name for index in range(len(pairs))] == ["000000_0000", "000000_0001", "000007_0000"]
    assert pairs.sequences() == {"000000": range(2), "000007": range(2, 3)}
    sample = pairs[1]
    assert torch.equal(sample.image1, grey(1))
    assert torch.equal(sample.image2, grey(2))
    assert not sample.valid[0].any()
    assert torch.equal(sample.flow[:, 1:], constant(0.0, 1.0)[:, 1:])
    assert sample.valid[1:].all()


@pytest.mark.parametrize("frame", [0, 1, 2])
@pytest.mark.parametrize("kind", ["hd1k_input/image_2", "hd1k_flow_gt/flow_occ"])
def test_a_missing_file_of_hd1k_never_shifts_the_pairs(hd1k: Path, kind: str, frame: int) -> None:
    (hd1k / "HD1k" / kind / f"000000_000{frame}.png").unlink()
    if kind == "hd1k_flow_gt/flow_occ" and frame == 2:
        assert len(Hd1k(hd1k)) == 3  # flow of the last frame, which no pair uses
        return
    with pytest.raises(LayoutError, match="missing"):
        Hd1k(hd1k)


def test_spring_flow_is_every_second_point_of_every_second_row(spring: Path) -> None:
    pairs = Spring(spring)
    assert [pairs[index].name for index in range(len(pairs))] == [
        "0001/frame_left_0001",
        "0001/frame_left_0002",
        "0010/frame_left_0001",
    ]
    assert pairs.sequences() == {"0001": range(2), "0010": range(2, 3)}
    sample = pairs[1]
    assert torch.equal(sample.image1, grey(12))
    assert torch.equal(sample.image2, grey(13))
    assert (~sample.valid).nonzero().tolist() == [[0, 1]]
    assert torch.equal(sample.flow[:, sample.valid], constant(2.0, -2.0)[:, sample.valid])
    assert not sample.flow[:, 0, 1].any()


def test_the_test_split_of_spring_has_no_known_flow(spring: Path) -> None:
    pairs = Spring(spring, "test")
    assert len(pairs) == 1
    assert not pairs[0].valid.any()


@pytest.mark.parametrize("name", ["frame_left/frame_left_0002.png", "flow_FW_left/flow_FW_left_0001.flo5"])
def test_a_missing_file_of_spring_never_shifts_the_pairs(spring: Path, name: str) -> None:
    (spring / "spring/train/0001" / name).unlink()
    with pytest.raises(LayoutError, match="missing"):
        Spring(spring)


def test_damaged_flo5_files_are_errors_that_name_them(spring: Path, tmp_path: Path) -> None:
    path = spring / "spring/train/0001/flow_FW_left/flow_FW_left_0001.flo5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"0001\.flo5: expected a complete HDF5 file"):
        Spring(spring)[0]
    with h5py.File(tmp_path / "a.flo5", "w") as file:
        file.create_dataset("disparity", data=np.zeros((2, 2)))
    with pytest.raises(FileFormatError, match=r'a\.flo5: expected a data set "flow" \(h, w, 2\), got none'):
        read_flo5(tmp_path / "a.flo5")


def test_without_h5py_spring_says_what_to_install(spring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'deq-flow\[spring\]'"):
        Spring(spring)[0]


@pytest.mark.parametrize("read", [FlyingChairs, Sintel, Kitti, FlyingThings, Hd1k, Spring])
def test_an_absent_data_set_says_what_to_unpack(tmp_path: Path, read: type) -> None:
    with pytest.raises(LayoutError, match="does not exist; unpack"):
        read(tmp_path)
