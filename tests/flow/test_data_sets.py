"""The readers of FlyingChairs, Sintel and KITTI on small trees in the released layouts."""

from pathlib import Path

import pytest
import torch

from deq_core.experiment.data import images
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError
from deq_flow.data import io
from deq_flow.data.samples import FlowSample
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel

H, W = 4, 6


def grey(level: int, h: int = H) -> torch.Tensor:
    return torch.full((3, h, W), level, dtype=torch.uint8)


def constant(u: float, v: float = 0.0, h: int = H) -> torch.Tensor:
    return torch.stack([torch.full((h, W), u), torch.full((h, W), v)])


@pytest.fixture
def chairs(tmp_path: Path) -> Path:
    folder = tmp_path / "FlyingChairs_release" / "data"
    for number in range(1, 6):
        images.write_image(folder / f"{number:05d}_img1.ppm", grey(10 * number))
        images.write_image(folder / f"{number:05d}_img2.ppm", grey(10 * number + 1))
        io.write_flo(folder / f"{number:05d}_flow.flo", constant(number))
    (tmp_path / "chairs_split.txt").write_text("1\n2\n1\n1\n2\n")
    return tmp_path


@pytest.fixture
def sintel(tmp_path: Path) -> Path:
    for split in ("training", "test"):
        for render in ("clean", "final"):
            for scene, frames in (("market_2", 2), ("alley_1", 3)):
                for frame in range(1, frames + 1):
                    level = 100 * (scene == "alley_1") + 10 * frame + (render == "final")
                    images.write_image(
                        tmp_path / "Sintel" / split / render / scene / f"frame_{frame:04d}.png", grey(level)
                    )
                    if split == "training" and frame < frames:
                        stem = f"{scene}/frame_{frame:04d}"
                        io.write_flo(tmp_path / "Sintel" / split / "flow" / f"{stem}.flo", constant(frame))
    return tmp_path


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    valid = torch.zeros(H, W, dtype=torch.bool)
    valid[1:] = True
    for number in (3, 0):
        for suffix in (10, 11):
            for split in ("training", "testing"):
                path = tmp_path / "KITTI" / split / "image_2" / f"{number:06d}_{suffix}.png"
                images.write_image(path, grey(10 * number + suffix))
        io.write_kitti(tmp_path / "KITTI/training/flow_occ" / f"{number:06d}_10.png", constant(number, 0.5), valid)
    return tmp_path


def test_chairs_follow_the_split_file(chairs: Path) -> None:
    train, val = FlyingChairs(chairs), FlyingChairs(chairs, "val")
    assert [sample.name for sample in (train[i] for i in range(len(train)))] == ["00001", "00003", "00004"]
    assert [sample.name for sample in (val[i] for i in range(len(val)))] == ["00002", "00005"]
    sample = train[1]
    assert torch.equal(sample.image1, grey(30))
    assert torch.equal(sample.image2, grey(31))
    assert torch.equal(sample.flow, constant(3))
    assert sample.valid.all()
    assert sample.occluded is None


def test_the_split_may_lie_beside_the_data(chairs: Path) -> None:
    (chairs / "chairs_split.txt").rename(chairs / "FlyingChairs_release" / "chairs_split.txt")
    assert len(FlyingChairs(chairs)) == 3


def test_a_missing_split_is_an_error_not_an_empty_set(chairs: Path) -> None:
    (chairs / "chairs_split.txt").unlink()
    with pytest.raises(LayoutError, match=r"chairs_split\.txt: the split of FlyingChairs is missing"):
        FlyingChairs(chairs)


def test_a_short_split_is_an_error_that_counts(chairs: Path) -> None:
    (chairs / "chairs_split.txt").write_text("1\n2\n1\n")
    with pytest.raises(LayoutError, match=r"chairs_split\.txt: expected 5 lines.*got 3"):
        FlyingChairs(chairs)


def test_a_split_with_other_marks_is_an_error(chairs: Path) -> None:
    (chairs / "chairs_split.txt").write_text("1\n2\n1\n3\n2\n")
    with pytest.raises(LayoutError, match=r"chairs_split\.txt: expected lines of 1 .* or 2 .*, got '3'"):
        FlyingChairs(chairs)


def test_a_missing_frame_is_an_error_and_does_not_shift_the_pairs(chairs: Path) -> None:
    (chairs / "FlyingChairs_release/data/00003_img2.ppm").unlink()
    with pytest.raises(LayoutError, match=r"1 files are missing.*00003_img2\.ppm"):
        FlyingChairs(chairs)


def test_flow_of_another_size_is_an_error_that_names_it(chairs: Path) -> None:
    io.write_flo(chairs / "FlyingChairs_release/data/00001_flow.flo", constant(1, h=H + 1))
    with pytest.raises(FileFormatError, match=r"00001_flow\.flo: expected 6x4 pixels, the size of its image, got 6x5"):
        FlyingChairs(chairs)[0]


def test_frames_of_different_size_are_an_error(chairs: Path) -> None:
    images.write_image(chairs / "FlyingChairs_release/data/00001_img2.ppm", grey(0, h=H + 1))
    with pytest.raises(FileFormatError, match=r"00001_img2\.ppm: expected 6x4"):
        FlyingChairs(chairs)[0]


def test_dense_flow_of_a_thousand_pixels_or_nan_is_not_valid(chairs: Path) -> None:
    values = constant(1)
    values[0, 0, 0], values[1, 1, 1], values[0, 2, 2] = 1000.0, -1e9, torch.nan
    io.write_flo(chairs / "FlyingChairs_release/data/00001_flow.flo", values)
    sample = FlyingChairs(chairs)[0]
    assert [(y, x) for y, x in (~sample.valid).nonzero().tolist()] == [(0, 0), (1, 1), (2, 2)]
    assert (sample.flow[:, ~sample.valid] == 0).all()
    assert torch.equal(sample.flow[:, sample.valid], constant(1)[:, sample.valid])


def test_sintel_pairs_are_sorted_and_never_cross_scenes(sintel: Path) -> None:
    pairs = Sintel(sintel)
    assert [pairs[i].name for i in range(len(pairs))] == [
        "alley_1/frame_0001",
        "alley_1/frame_0002",
        "market_2/frame_0001",
    ]
    assert torch.equal(pairs[1].image1, grey(120))
    assert torch.equal(pairs[1].image2, grey(130))
    assert torch.equal(pairs[1].flow, constant(2))


def test_sintel_passes_differ_in_images_alone(sintel: Path) -> None:
    clean, final = Sintel(sintel, "clean")[0], Sintel(sintel, "final")[0]
    assert torch.equal(final.image1, clean.image1 + 1)
    assert torch.equal(final.flow, clean.flow)


def test_sequences_are_the_pairs_of_each_scene_in_order(sintel: Path) -> None:
    assert Sintel(sintel).sequences() == {"alley_1": range(2), "market_2": range(2, 3)}


def test_a_test_split_has_frames_and_no_known_flow(sintel: Path, kitti: Path) -> None:
    for pairs in (Sintel(sintel, split="test"), Kitti(kitti, "testing")):
        sample = pairs[0]
        assert sample.image1.shape == (3, H, W)
        assert not sample.valid.any()
        assert not sample.flow.any()


def test_sintel_occlusions_are_read_where_they_exist(sintel: Path) -> None:
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[:, 0] = True
    images.write_mask(sintel / "Sintel/training/occlusions/alley_1/frame_0001.png", mask)
    pairs = Sintel(sintel)
    occluded = pairs[0].occluded
    assert occluded is not None
    assert torch.equal(occluded, mask)
    assert pairs[1].occluded is None


def test_sintel_invalid_masks_are_read_and_leave_the_flow_valid(sintel: Path) -> None:
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[0] = True
    images.write_mask(sintel / "Sintel/training/invalid/alley_1/frame_0001.png", mask)
    sample = Sintel(sintel)[0]
    assert sample.valid.all()
    assert sample.invalid is not None
    assert torch.equal(sample.invalid, mask)


def test_a_sintel_frame_without_flow_is_an_error(sintel: Path) -> None:
    (sintel / "Sintel/training/flow/alley_1/frame_0002.flo").unlink()
    with pytest.raises(LayoutError, match=r"flow.alley_1.frame_0002\.flo"):
        Sintel(sintel)


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_a_missing_sintel_frame_is_an_error_and_does_not_shift_the_pairs(sintel: Path, frame: int) -> None:
    (sintel / f"Sintel/training/clean/alley_1/frame_{frame:04d}.png").unlink()
    with pytest.raises(LayoutError, match=r"missing|without its two frames"):
        Sintel(sintel)
    assert len(Sintel(sintel, "final")) == 3


def test_kitti_pairs_come_in_order_with_sparse_flow(kitti: Path) -> None:
    pairs = Kitti(kitti)
    assert [pairs[i].name for i in range(len(pairs))] == ["000000", "000003"]
    sample = pairs[1]
    assert torch.equal(sample.image1, grey(40))
    assert torch.equal(sample.image2, grey(41))
    assert not sample.valid[0].any()
    assert sample.valid[1:].all()
    assert torch.equal(sample.flow[:, 1:], constant(3, 0.5)[:, 1:])
    assert sample.occluded is None


def test_kitti_pixels_without_unoccluded_flow_are_occluded(kitti: Path) -> None:
    seen = torch.zeros(H, W, dtype=torch.bool)
    seen[2:] = True
    io.write_kitti(kitti / "KITTI/training/flow_noc/000000_10.png", constant(0), seen)
    occluded = Kitti(kitti)[0].occluded
    assert occluded is not None
    assert occluded[1].all()
    assert int(occluded.sum()) == W


def test_a_kitti_pair_without_its_second_frame_is_an_error(kitti: Path) -> None:
    (kitti / "KITTI/training/image_2/000003_11.png").unlink()
    with pytest.raises(LayoutError, match=r"second frames.*000003_11\.png"):
        Kitti(kitti)


def test_a_sample_of_the_wrong_type_or_shape_says_which(chairs: Path) -> None:
    sample = FlyingChairs(chairs)[0]
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
