"""What is wrong with a data set on disk: missing files, damaged files, other numbers than released."""

from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from deq_core.experiment import images
from deq_core.experiment.images import FileFormatError
from deq_flow.data import check as check_module
from deq_flow.data import io
from deq_flow.data.catalogue import SOURCES
from deq_flow.data.check import FOLDERS, PARTS, check
from deq_flow.data.headers import size_of
from deq_flow.data.mini import MiniConfig, write_mini

MINI = MiniConfig(height=24, width=32, train_pairs=2, val_pairs=1, scenes=1, frames=3, kitti_pairs=2)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_mini(root, MINI)
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
    found = check(name, root, released=False, thorough=thorough)
    return [str(problem).replace(str(root), "data") for problem in found]


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("name", ["chairs", "sintel", "kitti"])
def test_a_whole_set_has_no_problem(pristine: Path, name: str, thorough: bool) -> None:
    assert faults(name, pristine, thorough=thorough) == []


def test_other_numbers_than_released_are_problems(pristine: Path) -> None:
    found = [str(problem) for problem in check("chairs", pristine)]
    folder = pristine / "FlyingChairs_release/data"
    assert found == [
        f"{folder}: expected 22232 pairs as released, got 2",
        f"{folder}: expected 640 pairs as released, got 1",
    ]


def test_a_part_that_was_not_unpacked_is_a_problem_of_the_release_alone(pristine: Path) -> None:
    found = [problem.path.relative_to(pristine).as_posix() for problem in check("kitti", pristine)]
    assert found == ["KITTI/testing", "KITTI/training"]
    assert faults("kitti", pristine) == []


def test_every_missing_file_is_named(data: Path) -> None:
    stems = [f"Sintel/training/flow/scene_1/frame_000{frame}.flo" for frame in (1, 2)]
    for stem in stems:
        (data / stem).unlink()
    assert faults("sintel", data) == [f"data/{stem}: missing" for stem in stems]


def test_an_empty_folder_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "FlyingChairs_release" / "data").mkdir(parents=True)
    (fault,) = faults("chairs", tmp_path)
    assert "data: expected files *_flow.flo, but the folder holds none; " in fault


@pytest.mark.parametrize("name", PARTS)
def test_an_absent_set_is_a_problem(tmp_path: Path, name: str) -> None:
    found = faults(name, tmp_path)
    assert found
    assert all(fault.startswith(f"data/{FOLDERS[name]}") for fault in found)


def test_every_damaged_file_is_named_and_no_other(data: Path) -> None:
    flow = data / "FlyingChairs_release/data/00001_flow.flo"
    frame = data / "FlyingChairs_release/data/00003_img2.ppm"
    flow.write_bytes(flow.read_bytes()[:-1])
    frame.write_bytes(b"")
    first, second = faults("chairs", data)
    assert first.startswith("data/FlyingChairs_release/data/00001_flow.flo: expected 12 + 8 * 32 * 24 bytes")
    assert second.startswith("data/FlyingChairs_release/data/00003_img2.ppm: expected a PNG, a JPEG or a binary PPM")


def test_damage_in_the_middle_is_found_by_reading_all(data: Path) -> None:
    path = data / "Sintel/training/clean/scene_1/frame_0002.png"
    content = bytearray(path.read_bytes())
    middle = content.index(b"IDAT") + 4
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    assert faults("sintel", data) == []
    (found,) = faults("sintel", data, thorough=True)
    assert found.startswith("data/Sintel/training/clean/scene_1/frame_0002.png: expected a complete .png file")


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


def test_reading_all_finds_what_the_header_shows_too(data: Path) -> None:
    path = data / "Sintel/training/clean/scene_1/frame_0002.png"
    path.write_bytes(path.read_bytes()[:-20])  # OpenCV still makes an image of it
    for thorough in (False, True):
        (found,) = faults("sintel", data, thorough=thorough)
        assert "expected chunks up to IEND" in found


def test_an_unreadable_file_is_a_problem_not_the_end(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(path: Path) -> tuple[int, int]:
        if path.name == "000000_10.png":
            raise OSError(5, "Input/output error", str(path))
        return size_of(path)

    monkeypatch.setattr(check_module, "size_of", size)
    found = faults("kitti", data)
    assert len(found) == 3  # image, flow_occ and flow_noc
    assert all("Input/output error" in fault for fault in found)


def test_an_unknown_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one of the sets chairs, .* got 'davis'"):
        check("davis", tmp_path)


def test_every_set_of_the_catalogue_can_be_checked() -> None:
    assert set(SOURCES) == set(PARTS) == set(FOLDERS)


def write_flo5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("flow", data=np.zeros((5, 7, 2), dtype=np.float32))


def write_noise(path: Path) -> None:
    images.write_image(path, torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)))


WRITERS: dict[str, Callable[[Path], None]] = {
    ".flo": lambda path: io.write_flo(path, torch.ones(2, 5, 7)),
    ".flo5": write_flo5,
    ".pfm": lambda path: io.write_pfm(path, torch.ones(3, 5, 7)),
    ".png": write_noise,
    ".ppm": write_noise,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_size_is_read_from_the_header(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    WRITERS[suffix](path)
    assert size_of(path) == (5, 7)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_is_not_whole_at_any_shorter_length(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    WRITERS[suffix](path)
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=rf"file\{suffix}: expected .*; copy or unpack the file again"):
            size_of(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_of_another_kind_is_not_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"<html>Please log in</html>" * 100)
    with pytest.raises(FileFormatError, match="expected"):
        size_of(path)


def test_sixteen_bit_images_and_comments_are_read(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((5, 7, 3), dtype=np.uint16))
    assert size_of(tmp_path / "a.png") == (5, 7)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made by hand\n7 5\n255\n" + bytes(105))
    assert size_of(tmp_path / "a.ppm") == (5, 7)
    with pytest.raises(ValueError, match=r"expected one of \.png, .* got '\.txt'"):
        size_of(tmp_path / "a.txt")
