"""What is wrong with a data set on disk, where sets come from, and the commands for both."""

import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.profiles import MINI as PROFILE
from tests.profiles import SMOKE

from deq_core.experiment.data.image_headers import ORIENTATION
from deq_core.experiment.data.images import FileFormatError, decode, encode
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.data.released import located
from deq_core.experiment.download import fetch as fetch_module
from deq_core.experiment.download.resume import DownloadError
from deq_core.experiment.files import write_text
from deq_core.experiment.outputs.written import files_of
from deq_vision import cli
from deq_vision.data.classes import STREET_OBJECTS
from deq_vision.data.mini.write_digits import MiniDigitsConfig, write_digits
from deq_vision.data.mini.write_street import MiniStreetConfig, write_street
from deq_vision.data.registry import REGISTRY
from deq_vision.data.sets.cifar import Cifar10
from deq_vision.data.sets.cityscapes import Cityscapes
from deq_vision.data.sets.imagenet import ImageNet
from deq_vision.data.sets.imagenet_vid import ImageNetVid

STREET = MiniStreetConfig(height=32, width=64, train_streets=2, train_frames=1, val_streets=1, test_streets=1)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_street(root, STREET)
    write_digits(root.parent / "digits", MiniDigitsConfig(train=5, val=1, test=1))
    (root.parent / "digits/cifar-10-batches-bin").rename(root / "cifar-10-batches-bin")
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


MINI = ("cifar10", "cityscapes", "vid")
PUBLISHED = sorted(REGISTRY.sets.keys() - {"own"})  # of which test_own_masks.py tells


@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("thorough", [False, True])
def test_a_whole_set_has_no_problem(pristine: Path, name: str, thorough: bool) -> None:
    assert faults(name, pristine, thorough=thorough) == []


def test_other_numbers_than_released_are_problems(pristine: Path) -> None:
    folder = pristine / "cifar-10-batches-bin"
    assert [str(problem) for problem in REGISTRY.check("cifar10", pristine)] == [
        f"{folder}: expected 50000 samples as released, got 5",
        f"{folder}: expected 10000 samples as released, got 1",
    ]


def test_splits_that_were_not_unpacked_are_problems_of_the_release_alone(pristine: Path) -> None:
    found = [problem.path.relative_to(pristine).as_posix() for problem in REGISTRY.check("cityscapes-videos", pristine)]
    assert found[0] == "cityscapes/leftImg8bit_sequence/train"
    assert faults("cityscapes-videos", pristine) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_absent_set_is_a_problem(tmp_path: Path, name: str) -> None:
    found = faults(name, tmp_path)
    assert found
    assert all(fault.startswith(f"data/{REGISTRY.sets[name].folder}") for fault in found)


def test_every_missing_and_every_damaged_file_is_named(data: Path) -> None:
    truth = data / "cityscapes/gtFine/val/midtown/midtown_000000_000019_gtFine_labelIds.png"
    truth.unlink()
    assert faults("cityscapes", data) == [f"data/{truth.relative_to(data)}: missing"]
    video = data / "ILSVRC/Annotations/VID/val/ILSVRC2015_val_00000000"
    (video / "000004.xml").write_text("<annotation>")
    frame = data / "ILSVRC/Data/VID/val/ILSVRC2015_val_00000000/000005.JPEG"
    frame.write_bytes(frame.read_bytes()[:-30])
    first, second = faults("vid", data)
    assert first.startswith("data/ILSVRC/Annotations/VID/val/ILSVRC2015_val_00000000/000004.xml: expected an XML file")
    assert second.startswith("data/ILSVRC/Data/VID/val/ILSVRC2015_val_00000000/000005.JPEG: expected")
    records = data / "cifar-10-batches-bin/data_batch_2.bin"
    records.write_bytes(records.read_bytes()[:-1])
    (found,) = faults("cifar10", data)
    assert found.startswith("data/cifar-10-batches-bin/data_batch_2.bin: expected records of 3073 bytes")


LABELS = "cityscapes/gtFine/val/midtown/midtown_000000_000019_gtFine_labelIds.png"
SEQUENCE = "cityscapes/leftImg8bit_sequence/val/midtown/midtown_000000_{:06d}_leftImg8bit.png"


@pytest.mark.parametrize("thorough", [False, True])
def test_labels_of_another_size_than_their_frame_are_found(data: Path, thorough: bool) -> None:
    labels, frame = data / LABELS, "data/cityscapes/leftImg8bit/val/midtown/midtown_000000_000019_leftImg8bit.png"
    encode(labels, np.full((32, 60), 7, np.uint8))
    assert faults("cityscapes", data, thorough=thorough) == [
        f"data/{LABELS}: expected 64x32 pixels, the size of {frame}, got 60x32; copy or unpack the file again"
    ]
    with pytest.raises(FileFormatError, match="expected 64x32 pixels, the size of its image, got 60x32"):
        Cityscapes(data, "val")[0]


def test_labels_of_another_size_than_their_frame_of_a_video_are_found(data: Path) -> None:
    for number in (19, 20):
        encode(data / SEQUENCE.format(number), np.zeros((16, 64, 3), np.uint8))
    found = faults("cityscapes-videos", data)
    assert [fault.partition(":")[0].removeprefix("data/cityscapes/") for fault in found] == [
        "gtFine/val/midtown/midtown_000000_000019_gtFine_labelIds.png",
        "gtFine_sequence/val/midtown/midtown_000000_000019_gtFine_labelIds.png",
        "gtFine_sequence/val/midtown/midtown_000000_000020_gtFine_labelIds.png",
    ]
    assert all("expected 64x16 pixels, the size of data/cityscapes/leftImg8bit_sequence" in fault for fault in found)


def test_a_damaged_frame_is_the_only_problem_of_its_pair(data: Path) -> None:
    frame = data / SEQUENCE.format(20)
    frame.write_bytes(frame.read_bytes()[:-20])
    (fault,) = faults("cityscapes-videos", data)
    assert fault.startswith(f"data/{SEQUENCE.format(20)}: expected the end of a PNG file")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.full((32, 64), 255, np.uint8), "label ids from 0 to 33, got 255"),
        (np.full((32, 64), 34, np.uint8), "label ids from 0 to 33, got 34"),
        (np.full((32, 64), 7, np.uint16), r"an 8-bit image of one channel, got uint16"),
        (np.full((32, 64, 3), 7, np.uint8), r"an 8-bit image of one channel, got uint8 of shape \(32, 64, 3\)"),
    ],
)
def test_labels_that_are_no_ids_are_found_by_decoding_them(data: Path, stored: np.ndarray, expected: str) -> None:
    encode(data / LABELS, stored)
    assert faults("cityscapes", data) == []
    (fault,) = faults("cityscapes", data, thorough=True)
    assert re.match(rf"data/{LABELS}: expected {expected}", fault)


@pytest.mark.parametrize("thorough", [False, True])
def test_labels_as_jpeg_have_other_numbers_than_were_written(data: Path, thorough: bool) -> None:
    labels = data / LABELS
    labels.write_bytes(cv2.imencode(".jpg", np.full((32, 64), 7, np.uint8))[1].tobytes())
    (fault,) = faults("cityscapes", data, thorough=thorough)
    assert fault.startswith(f"data/{LABELS}: expected a PNG file, got")


def test_other_images_of_labels_may_have_any_values(data: Path) -> None:
    path = data / LABELS
    encode(path.with_name(path.name.replace("labelIds", "instanceIds")), np.full((16, 16), 26001, np.uint16))
    assert faults("cityscapes", data, thorough=True) == []


VID_FRAME = "ILSVRC2015_val_00000000/000005"


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((32, 64), "the size of its image, 64x32, got 32x64"),  # swapped
        ((128, 64), "the size of its image, 64x32, got 128x64"),
        ((0, 0), "a size of at least 1x1 pixels, got 0x0"),
        (None, "an element size/width in <annotation>, got none"),
    ],
)
def test_annotations_of_another_size_than_their_frame_are_found_as_the_reader_does(
    data: Path, size: tuple[int, int] | None, message: str, thorough: bool
) -> None:
    path = data / f"ILSVRC/Annotations/VID/val/{VID_FRAME}.xml"
    stated = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    path.write_text(re.sub(r"(?s)<size>.*</size>", stated, path.read_text()))
    (fault,) = faults("vid", data, thorough=thorough)
    assert fault == f"{path}: expected {message}; copy or unpack the file again".replace(str(data), "data")
    with pytest.raises(FileFormatError, match=re.escape(message)):
        ImageNetVid(data, "val", classes=STREET_OBJECTS)[5]


@pytest.mark.parametrize("thorough", [False, True])
def test_annotations_of_det_are_compared_with_their_images(tmp_path: Path, thorough: bool) -> None:
    base = tmp_path / "ILSVRC"
    for number, width in enumerate((30, 31)):
        encode(base / f"Data/DET/train/Annotations/n1_{number}.JPEG", np.zeros((20, 30, 3), np.uint8))
        extent = f"<size><width>{width}</width><height>20</height></size>"
        write_text(base / f"Annotations/DET/train/Annotations/n1_{number}.xml", f"<annotation>{extent}</annotation>")
    write_text(base / "ImageSets/DET_train_30classes.txt", "".join(f"train/Annotations/n1_{k} 1\n" for k in (0, 1)))
    assert faults("det", tmp_path, thorough=thorough) == [
        "data/ILSVRC/Annotations/DET/train/Annotations/n1_1.xml: expected the size of its image, 30x20, got 31x20; "
        "copy or unpack the file again"
    ]


def test_frames_are_checked_and_read_as_they_are_stored(data: Path) -> None:
    """Boxes and labels are of the stored pixels, however the camera was held."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # upright, its sides are swapped
    frame = "cityscapes/leftImg8bit/val/midtown/midtown_000000_000019_leftImg8bit.png"
    for path in (data / f"ILSVRC/Data/VID/val/{VID_FRAME}.JPEG", data / frame, data / LABELS):
        before = decode(path, cv2.IMREAD_UNCHANGED)
        with Image.open(path) as image:
            image.load()
            image.save(path, exif=exif, quality=95)
        assert np.abs(decode(path, cv2.IMREAD_UNCHANGED).astype(int) - before).mean() < 3
    for name in ("vid", "cityscapes"):
        assert faults(name, data) == faults(name, data, thorough=True) == []
    assert ImageNetVid(data, "val", classes=STREET_OBJECTS)[5].image.shape == (3, 32, 64)
    assert Cityscapes(data, "val")[0].labels.shape == (32, 64)


def test_a_box_that_ends_before_it_begins_is_found(data: Path) -> None:
    path = data / "ILSVRC/Annotations/VID/val/ILSVRC2015_val_00000000/000004.xml"
    left = "<name>n02958343</name><bndbox><xmax>3</xmax><xmin>9</xmin><ymax>5</ymax><ymin>1</ymin></bndbox>"
    path.write_text(
        f"<annotation><size><width>64</width><height>32</height></size><object>{left}</object></annotation>"
    )
    (fault,) = faults("vid", data)
    assert fault.startswith(
        "data/ILSVRC/Annotations/VID/val/ILSVRC2015_val_00000000/000004.xml: expected boxes that end"
    )


@pytest.mark.parametrize("thorough", [False, True])
def test_a_png_by_the_name_of_a_jpeg_is_whole_if_it_is(tmp_path: Path, thorough: bool) -> None:
    """As n02105855_2933.JPEG of ImageNet's release is."""
    path = tmp_path / "imagenet/train/n02105855/n02105855_2933.JPEG"
    path.parent.mkdir(parents=True)
    content = cv2.imencode(".png", np.full((9, 5, 3), 7, np.uint8))[1].tobytes()
    path.write_bytes(content)
    assert ImageNet(tmp_path)[0].image.shape == (3, 9, 5)
    assert faults("imagenet", tmp_path, thorough=thorough) == []
    REGISTRY.prepare(tmp_path / "manifest", ReleasedSets(root=str(tmp_path), sets=("imagenet",), complete=False))
    path.write_bytes(content[:-12])
    (fault,) = faults("imagenet", tmp_path)
    assert fault.startswith("data/imagenet/train/n02105855/n02105855_2933.JPEG: expected the end of a PNG file")


# What is fetched


def archive_of(folder: Path) -> Callable[..., None]:
    """Stands in for `download`: packs a folder as if it had been downloaded."""

    def download(_: str, kept: Path, **__: object) -> None:
        with tarfile.open(kept, "w:gz") as archive:
            archive.add(folder, folder.name)

    return download


def test_what_is_fetched_lies_where_the_reader_looks(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deq_core.experiment.download.fetch.download", archive_of(pristine / "cifar-10-batches-bin"))
    monkeypatch.setattr("deq_core.experiment.download.fetch.require", lambda *_: None)  # another archive
    fetch_module.fetch(REGISTRY.sets["cifar10"].source, tmp_path)
    assert len(Cifar10(tmp_path)) == 5


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "cifar10"])
def test_sets_behind_a_login_say_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"is fetched by hand from https://.*: log in and download"):
        fetch_module.fetch(REGISTRY.sets[name].source, tmp_path)


# The commands


def run(*arguments: object) -> None:
    cli.main([str(argument) for argument in arguments])


def test_the_mini_sets_are_written_from_their_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "vision"
    run("download", "--out", out, "--params", SMOKE)
    files = [path for path in out.rglob("*") if path.is_file()]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    for folder in ("digits/cifar-10-batches-bin", "street/cityscapes", "street/ILSVRC"):
        assert (out / folder).is_dir()
    for place in (out, out / "digits", out / "street"):
        listed = json.loads((place / "manifest.json").read_text())["files"]
        assert listed.keys() == {
            path.relative_to(place).as_posix() for path in files if place in path.parents and path.parent != place
        } | ({"digits/manifest.json", "street/manifest.json"} if place == out else set())


def test_a_key_that_is_unknown_stops_the_command(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PROFILE.read_text().replace("digits: {seed: 0, train:", "digits: {seed: 0, trian:"))
    with pytest.raises(SystemExit, match=r"deq-vision: .*vision\.data\.digits\.trian: expected one of the keys"):
        run("download", "--out", tmp_path / "vision", "--params", params)
    assert not (tmp_path / "vision").exists()


def test_released_sets_stay_where_they_are_and_are_found_through_the_manifest(data: Path, tmp_path: Path) -> None:
    config = ReleasedSets(root=str(data), sets=("cifar10", "cityscapes"), complete=False)
    REGISTRY.prepare(tmp_path / "vision", config)
    assert files_of(tmp_path / "vision") == [tmp_path / "vision" / "manifest.json"]
    assert located(tmp_path / "vision") == data.resolve()
    with pytest.raises(LayoutError, match=r"expected 50000 samples as released"):
        REGISTRY.prepare(tmp_path / "whole", replace(config, complete=True))
    assert not (tmp_path / "whole").exists()


def test_the_check_prints_problems_and_fails(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("check-data", "cifar10", "--data", data, "--no-released")
    assert json.loads(capsys.readouterr().out) == {"problems": 0}
    with pytest.raises(SystemExit) as leaving:
        run("check-data", "cifar10", "--data", data)
    assert leaving.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert "expected 50000 samples as released, got 5" in lines[0]
    assert json.loads(lines[-1]) == {"problems": 2}


@pytest.mark.parametrize("command", ["download", "check-data"])
def test_an_unknown_name_says_which_there_are(command: str) -> None:
    with pytest.raises(SystemExit, match="deq-vision: no data set is named 'coco'; there are cifar10, imagenet, "):
        run(command, "coco")


def test_fetching_by_hand_leaves_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"deq-vision: ImageNet VID, ILSVRC 2015 is fetched by hand from https://"):
        run("download", "vid", "--out", tmp_path)
