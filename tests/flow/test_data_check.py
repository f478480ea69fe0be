"""What is wrong with a data set on disk: missing files, damaged files, other numbers than released."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.flow.small import mini, write_flow

from deq_core.experiment.data import images
from deq_core.experiment.data.images import FileFormatError
from deq_flow.data import headers, io
from deq_flow.data.headers import size_of
from deq_flow.data.io import KITTI_FLOW
from deq_flow.data.mini.write import write_mini
from deq_flow.data.registry import REGISTRY
from deq_flow.data.sets.things import DIRECTIONS

PUBLISHED = sorted(REGISTRY.sets.keys() - {"own"})  # of which test_data_own.py tells


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_mini(root, mini())
    return root


@pytest.fixture
def data(pristine: Path, tmp_path: Path) -> Path:
    for path in pristine.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(pristine)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path


def faults(name: str, root: Path, *, thorough: bool = False) -> list[str]:
    found = REGISTRY.check(name, root, released=False, thorough=thorough)
    return [str(problem).replace(str(root), "data") for problem in found]


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("name", ["chairs", "sintel", "kitti"])
def test_a_whole_set_has_no_problem(pristine: Path, name: str, thorough: bool) -> None:
    assert faults(name, pristine, thorough=thorough) == []


def test_other_numbers_than_released_are_problems(pristine: Path) -> None:
    found = [str(problem) for problem in REGISTRY.check("chairs", pristine)]
    folder = pristine / "FlyingChairs_release/data"
    assert found == [
        f"{folder}: expected 22232 pairs as released, got 2",
        f"{folder}: expected 640 pairs as released, got 1",
    ]


def test_a_part_that_was_not_unpacked_is_a_problem_of_the_release_alone(pristine: Path) -> None:
    found = [problem.path.relative_to(pristine).as_posix() for problem in REGISTRY.check("kitti", pristine)]
    assert found == ["KITTI/testing", "KITTI/training"]
    assert faults("kitti", pristine) == []


def test_every_missing_file_is_named(data: Path) -> None:
    stems = [f"Sintel/training/flow/scene_1/frame_000{frame}.flo" for frame in (1, 2)]
    for stem in stems:
        (data / stem).unlink()
    assert faults("sintel", data) == [f"data/{stem}: missing" for stem in stems]


@pytest.mark.parametrize("file", ["clean/scene_1/frame_0002.png", "flow/scene_1/frame_0001.flo"])
def test_a_link_that_leads_nowhere_is_named_by_the_check_and_by_readers(data: Path, file: str) -> None:
    path = data / "Sintel" / "training" / file
    path.unlink()
    path.symlink_to(data / "cache" / "removed")
    assert faults("sintel", data) == [f"data/Sintel/training/{file}: a link that leads nowhere"]
    for read in (headers.size_of, io.read_flo, io.read_pfm, io.read_kitti, images.read_image):
        with pytest.raises(images.FileFormatError, match=rf"{path.name}: no such file"):
            read(path)


def test_an_empty_folder_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "FlyingChairs_release" / "data").mkdir(parents=True)
    (fault,) = faults("chairs", tmp_path)
    assert "data: expected files *_flow.flo, but the folder holds none; " in fault


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_absent_set_is_a_problem(tmp_path: Path, name: str) -> None:
    found = faults(name, tmp_path)
    assert found
    assert all(fault.startswith(f"data/{REGISTRY.sets[name].folder}") for fault in found)


def test_every_damaged_file_is_named_and_no_other(data: Path) -> None:
    flow = data / "FlyingChairs_release/data/00001_flow.flo"
    frame = data / "FlyingChairs_release/data/00003_img2.ppm"
    flow.write_bytes(flow.read_bytes()[:-1])
    frame.write_bytes(b"")
    first, second = faults("chairs", data)
    assert first.startswith("data/FlyingChairs_release/data/00001_flow.flo: expected 12 + 8 * 32 * 24 bytes")
    assert second.startswith(
        "data/FlyingChairs_release/data/00003_img2.ppm: expected a BMP, JPEG, PNG, PPM, TIFF, WEBP file"
    )


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("folder", ["flow_occ", "flow_noc"])
def test_an_image_of_eight_bits_is_no_flow(data: Path, folder: str, thorough: bool) -> None:
    path = data / "KITTI/training" / folder / "000000_10.png"
    write_noise(path)
    (found,) = faults("kitti", data, thorough=thorough)
    assert "000000_10.png: expected a 16-bit PNG of three channels, got 8 bits" in found
    path.write_bytes(cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].tobytes())
    (found,) = faults("kitti", data, thorough=thorough)
    assert "000000_10.png: expected a PNG file, got" in found


def test_a_map_of_one_channel_is_no_flow_but_may_be_a_disparity(tmp_path: Path) -> None:
    io.write_pfm(tmp_path / "disparity" / "a.pfm", torch.ones(1, 5, 7))
    io.write_pfm(tmp_path / "optical_flow" / "a.pfm", torch.ones(1, 5, 7))
    assert size_of(tmp_path / "disparity" / "a.pfm") == (5, 7)
    with pytest.raises(FileFormatError, match="expected three channels"):
        size_of(tmp_path / "optical_flow" / "a.pfm")


OTHER_SIZES = {
    "FlyingChairs_release/data/00001_img2.ppm": "the first frame of its pair",
    "FlyingChairs_release/data/00003_flow.flo": "its image",
    "FlyingThings3D/frames_cleanpass/TRAIN/A/0000/left/0007.png": "the first frame of its pair",
    "FlyingThings3D/optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm": "its image",
    "Sintel/training/clean/scene_1/frame_0003.png": "the first frame of its pair",
    "Sintel/training/flow/scene_1/frame_0001.flo": "its image",
    "Sintel/training/occlusions/scene_1/frame_0002.png": "its image",
    "KITTI/training/image_2/000000_11.png": "the first frame of its pair",
    "KITTI/training/flow_occ/000001_10.png": "its image",
    "KITTI/training/flow_noc/000001_10.png": "its image",
    "HD1k/hd1k_input/image_2/000000_0001.png": "the first frame of its pair",
    "HD1k/hd1k_flow_gt/flow_occ/000000_0000.png": "its image",
    "spring/train/0001/frame_left/frame_left_0002.png": "the first frame of its pair",
    "spring/train/0001/flow_FW_left/flow_FW_left_0001.flo5": "its image",
}


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_of_another_size_than_its_frame_is_named(data: Path, name: str, thorough: bool) -> None:
    """KITTI's pairs are of several sizes; Spring's flow is twice as large as its frames."""
    add_published_layouts(data)
    assert faults(name, data, thorough=thorough) == []
    wrong = {path: what for path, what in OTHER_SIZES.items() if path.startswith(REGISTRY.sets[name].folder)}
    for path in wrong:
        write_sized(data / path, 5, 7)
    found = faults(name, data, thorough=thorough)
    for path, what in wrong.items():
        fault = rf"data/{path}: expected \d+x\d+ pixels, .*the size of {what}, got 7x5;"
        assert any(re.match(fault, line) for line in found), path
    assert all(" pixels, " in line for line in found)
    if name == "spring":
        assert f"expected {2 * 32}x{2 * 24} pixels, 2 times the size" in "".join(found)


def test_a_frame_between_others_differs_from_both_and_from_its_flow(data: Path) -> None:
    write_sized(data / "Sintel/training/final/scene_1/frame_0002.png", 5, 7)
    found = faults("sintel", data)
    assert [fault.split(":")[0].removeprefix("data/Sintel/training/") for fault in found] == [
        "final/scene_1/frame_0002.png",
        "final/scene_1/frame_0003.png",
        "flow/scene_1/frame_0002.flo",
        "occlusions/scene_1/frame_0002.png",
    ]


def test_a_damaged_file_has_no_size_to_differ(data: Path) -> None:
    (data / "KITTI/training/image_2/000000_10.png").write_bytes(b"")
    assert len(faults("kitti", data)) == 1


def add_published_layouts(root: Path) -> None:
    """A pair of each of the sets that have no miniature, and one of KITTI of another size."""
    things, spring = root / "FlyingThings3D", root / "spring" / "train" / "0001"
    for frame in ("0006", "0007"):
        write_sized(things / f"frames_cleanpass/TRAIN/A/0000/left/{frame}.png", 24, 32)
        for direction, prefix in DIRECTIONS.items():
            path = things / f"optical_flow/TRAIN/A/0000/{direction}/left/{prefix}_{frame}_L.pfm"
            write_sized(path, 24, 32)
    for frame in (0, 1):
        write_sized(root / f"HD1k/hd1k_input/image_2/000000_{frame:04d}.png", 24, 32)
        write_sized(root / f"HD1k/hd1k_flow_gt/flow_occ/000000_{frame:04d}.png", 24, 32)
    for frame in (1, 2):
        write_sized(spring / f"frame_left/frame_left_{frame:04d}.png", 24, 32)
    write_sized(spring / "flow_FW_left" / "flow_FW_left_0001.flo5", 48, 64)
    for name in ("image_2/000099_10", "image_2/000099_11", "flow_occ/000099_10"):
        write_sized(root / "KITTI" / "training" / f"{name}.png", 20, 36)


def write_sized(path: Path, height: int, width: int) -> None:
    """A frame, flow or mask, whichever belongs at such a path."""
    if (path.suffix == ".png" and path.parent.name not in KITTI_FLOW) or path.suffix == ".ppm":
        images.write_image(path, torch.zeros(3, height, width, dtype=torch.uint8))
    else:
        write_flow(path, torch.ones(2, height, width))


def test_an_unreadable_file_is_a_problem_not_the_end(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(path: Path) -> tuple[int, int]:
        if path.name == "000000_10.png":
            raise OSError(5, "Input/output error", str(path))
        return size_of(path)

    monkeypatch.setattr(headers, "size_of", size)
    found = faults("kitti", data)
    assert len(found) == 3  # image, flow_occ and flow_noc
    assert all("Input/output error" in fault for fault in found)


def write_noise(path: Path) -> None:
    images.write_image(path, torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)))


def test_sixteen_bit_images_and_comments_are_read(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((5, 7, 3), dtype=np.uint16))
    assert size_of(tmp_path / "a.png") == (5, 7)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made by hand\n7 5\n255\n" + bytes(105))
    assert size_of(tmp_path / "a.ppm") == (5, 7)
    with pytest.raises(ValueError, match=r"expected an image, or flow in .* got '\.txt'"):
        size_of(tmp_path / "a.txt")
